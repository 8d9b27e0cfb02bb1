package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/recent"
)

// BenchmarkHitPath compares a cache hit of the whole broker, as serve runs it,
// with a bare net/http handler that writes the same bytes: CPU time and
// allocations of the serving process per request, and the answer that one in a
// hundred is slower than. Each iteration is one pair of rounds, so that both sides
// meet the same machine. The handler runs as Go runs programs; where the name ends
// in alike, on one processor as serve does.
//
// The two servers run in processes of their own: this binary, told by
// CREDFREE_BENCH_SERVER what to be.
func BenchmarkHitPath(b *testing.B) {
	for _, variant := range []struct {
		name, server, network string
		connections           int
	}{
		{"tcp/1", "broker", "tcp", 1}, {"tcp/16", "broker", "tcp", 16}, {"tcp/64", "broker", "tcp", 64}, {"unix/1", "broker", "unix", 1},
		{"tcp/1/alike", "broker", "tcp", 1}, {"tcp/16/alike", "broker", "tcp", 16}, {"tcp/64/alike", "broker", "tcp", 64}, {"unix/1/alike", "broker", "unix", 1},
		{"tcp/1/managed-identity", "broker", "tcp", 1}, {"tcp/16/managed-identity", "broker", "tcp", 16},
		{"tcp/1/on-behalf-of", "broker", "tcp", 1}, {"unix/1/otlp-1-percent", "broker", "unix", 1},
		{"tcp/1/otlp-1-percent", "broker", "tcp", 1}, {"tcp/1/otlp-100-percent", "broker", "tcp", 1},
		{"tcp/1/bare-that-reads-the-body", "reader", "tcp", 1},
		{"tcp/1/otlp-dead", "broker", "tcp", 1}, {"tcp/1/otlp-silent", "broker", "tcp", 1},
	} {
		b.Run(variant.name, func(b *testing.B) {
			env := collectorFor(b, variant.name)
			if variant.server == "reader" { // what net/http takes for a request whose body is read, whoever reads it
				env = append(env, "CREDFREE_BENCH_BODY="+strings.Repeat("x", 2000))
			}
			broker := startBenchServer(b, variant.server, env...)
			form := benchForm
			if strings.HasSuffix(variant.name, "/on-behalf-of") {
				user, err := os.ReadFile(broker.userToken)
				check(b, err)
				form = benchUserForm + string(user)
			}
			request := []byte("POST /oauth2/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: " +
				strconv.Itoa(len(form)) + "\r\n\r\n" + form)
			if strings.HasSuffix(variant.name, "/managed-identity") {
				request = []byte("GET /msi/token?" + benchQuery + " HTTP/1.1\r\nHost: 127.0.0.1\r\nX-IDENTITY-HEADER: none\r\n\r\n")
			}
			env = []string{"CREDFREE_BENCH_BODY=" + firstAnswer(b, broker, variant.network, request)}
			if strings.HasSuffix(variant.name, "/alike") {
				env = append(env, "GOMAXPROCS=1")
			}
			floor := startBenchServer(b, "floor", env...)
			const requests = 3200
			var ratios, costs, allocs, slow []float64
			for b.Loop() {
				f := floor.measure(b, "tcp", variant.connections, requests, request)
				m := broker.measure(b, variant.network, variant.connections, requests, request)
				ratios = append(ratios, m.cpu/f.cpu)
				costs = append(costs, m.cpu)
				allocs = append(allocs, m.allocs-f.allocs)
				slow = append(slow, m.p99/f.p99)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(ratios), "x-floor-cpu/req")
			b.ReportMetric(median(costs), "cpu-us/req")
			b.ReportMetric(median(allocs), "allocs-beyond-floor/req")
			b.ReportMetric(median(slow), "x-floor-p99")
		})
	}
}

// collectorFor is the environment of a broker that exports to a collector: one
// that takes everything, one that is not there, or one that never answers.
func collectorFor(b *testing.B, variant string) []string {
	b.Helper()
	_, kind, exported := strings.Cut(variant, "/otlp-")
	if !exported {
		return nil
	}
	release := make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if kind == "silent" {
			<-release
		}
		_, _ = io.Copy(io.Discard, r.Body) // the broker's trouble, if it ends early
	}))
	b.Cleanup(collector.Close)
	b.Cleanup(func() { close(release) }) // first
	endpoint := collector.URL
	if kind == "dead" {
		endpoint = "http://127.0.0.1:1"
	}
	env := []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + endpoint + "/v1/traces", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}
	if kind == "1-percent" {
		env = append(env, "OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.01")
	}
	return env
}

const (
	benchQuery    = "api-version=2019-08-01&resource=https%3A%2F%2Fgraph.microsoft.com"
	benchForm     = "grant_type=client_credentials&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
	benchUserForm = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&requested_token_use=on_behalf_of&scope=https%3A%2F%2Fgraph.microsoft.com%2FUser.Read&assertion="
)

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// benchServer is a server process.
type benchServer struct {
	addresses map[string]string // by network
	userToken string            // file
	in        io.WriteCloser
	out       *bufio.Reader
}

func startBenchServer(b *testing.B, kind string, env ...string) *benchServer {
	b.Helper()
	exe, err := os.Executable()
	check(b, err)
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), exe) // it ends with its input
	cmd.Env = append(append(os.Environ(), "CREDFREE_BENCH_SERVER="+kind), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	check(b, err)
	out, err := cmd.StdoutPipe()
	check(b, err)
	check(b, cmd.Start())
	s := &benchServer{in: in, out: bufio.NewReader(out), addresses: map[string]string{}}
	b.Cleanup(func() { check(b, errors.Join(in.Close(), cmd.Wait())) })
	var tcp, unix string
	_, err = fmt.Sscanln(s.line(b), &tcp, &unix, &s.userToken)
	check(b, err)
	s.addresses["tcp"], s.addresses["unix"] = tcp, unix
	return s
}

func (s *benchServer) line(b *testing.B) string {
	b.Helper()
	line, err := s.out.ReadString('\n')
	check(b, err)
	return line
}

// usage is what the server process has used since it started.
func (s *benchServer) usage(b *testing.B) (cpu, allocs float64) {
	b.Helper()
	_, err := io.WriteString(s.in, "\n")
	check(b, err)
	_, err = fmt.Sscanln(s.line(b), &cpu, &allocs)
	check(b, err)
	return cpu, allocs
}

type cost struct{ cpu, allocs, p99 float64 } // per request; cpu and p99 in microseconds

func (s *benchServer) measure(b *testing.B, network string, connections, requests int, request []byte) cost {
	b.Helper()
	cpu, allocs := s.usage(b)
	took := make([]float64, requests/connections*connections)
	var all sync.WaitGroup
	for c := range connections {
		mine := took[c*(requests/connections):][:requests/connections]
		all.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(b.Context(), network, s.addresses[network])
			if err != nil {
				b.Error(err)
				return
			}
			reader := bufio.NewReaderSize(conn, 16<<10)
			for i := range mine {
				began := time.Now()
				if _, err := exchangeOnce(conn, reader, request); err != nil {
					b.Error(err)
					break
				}
				mine[i] = float64(time.Since(began).Nanoseconds()) / 1e3
			}
			if err := conn.Close(); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	cpuAfter, allocsAfter := s.usage(b)
	slices.Sort(took)
	n := float64(len(took))
	return cost{(cpuAfter - cpu) / n, (allocsAfter - allocs) / n, took[len(took)*99/100]}
}

// exchangeOnce sends a request and reads the answer, and returns its body.
func exchangeOnce(conn net.Conn, reader *bufio.Reader, request []byte) ([]byte, error) {
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	length := 0
	for first := true; ; first = false {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return nil, fmt.Errorf("answer %q", line)
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return nil, err
			}
		}
		if len(line) == 2 {
			break
		}
	}
	body := make([]byte, length)
	_, err := io.ReadFull(reader, body)
	return body, err
}

// firstAnswer warms the cache and returns the body of an answer.
func firstAnswer(b *testing.B, s *benchServer, network string, request []byte) string {
	b.Helper()
	conn, err := (&net.Dialer{}).DialContext(b.Context(), network, s.addresses[network])
	check(b, err)
	body, err := exchangeOnce(conn, bufio.NewReader(conn), request)
	check(b, err)
	check(b, conn.Close())
	return string(body)
}

// benchServers are what this binary can be told to be.
var benchServers = map[string]func(){"floor": serveFloor, "reader": serveFloor, "broker": serveBroker}

// serveFloor writes the same bytes, and does nothing else.
func serveFloor() {
	body := []byte(os.Getenv("CREDFREE_BENCH_BODY"))
	reads := os.Getenv("CREDFREE_BENCH_SERVER") == "reader"
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if reads {
			_, _ = io.ReadFull(r.Body, make([]byte, r.ContentLength)) // the reader of the answer checks
		}
		h := w.Header()
		h["Content-Type"] = []string{"application/json"}
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
		_, _ = w.Write(body) // the reader is the benchmark, which checks
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once or fails
	must(err)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }() // it ends with the process
	answerUsage(listener.Addr().String(), "-", "-")
}

// serveBroker is a broker of its own process.
func serveBroker() {
	dir, err := os.MkdirTemp("", "credfree-bench-")
	must(err)
	defer func() { must(os.RemoveAll(dir)) }()
	s := benchService(dir)
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { must(s.serve(ctx)) })
	if path := os.Getenv("CREDFREE_BENCH_PROFILE"); path != "" { // where the broker's time goes
		profile, err := os.Create(path + "-" + os.Getenv("CREDFREE_BENCH_SERVER"))
		must(err)
		must(pprof.StartCPUProfile(profile))
		defer pprof.StopCPUProfile()
	}
	useOneProcessor(os.Getenv)
	answerUsage(s.agentsAddr(), filepath.Join(dir, "demo.sock"), filepath.Join(dir, "user-token"))
	stop()
	serving.Wait()
}

// benchService is the whole broker with its emulator: callers by uid, audit log
// in a file, metrics, and spans as the environment says.
func benchService(dir string) *service {
	lab, err := startLab(labConfig{dir: dir, workloadLifetime: time.Hour})
	must(err)
	agent := fmt.Sprintf("agents:\n  demo:\n    identity: demo\n    callers: [{tcp: {uids: [%d]}}, {socket: demo.sock, uids: [%d]}]\n    allow: {scopes: [%q]}\n    onBehalfOf: {allow: {scopes: [%q]}}\n",
		os.Getuid(), os.Getuid(), graphScope, userScope)
	p, err := policy.Parse("credfree.yaml", []byte(lab.header()+agent))
	must(err)
	audit, err := issuance.OpenFile(filepath.Join(dir, "audit.log"))
	must(err)
	log := slog.New(slog.DiscardHandler)
	memory := recent.New(time.Now())
	telemetry, err := newTelemetry(context.Background(), log, spanKeeper{memory}) // as serve does
	must(err)
	s, err := newService(serviceConfig{policy: p, listen: "127.0.0.1:0", adminListen: "127.0.0.1:0", socketDir: dir, audit: audit, telemetry: telemetry, log: log, memory: memory})
	must(err)
	return s
}

// BenchmarkHandler is a cache hit without net/http and the network: all that is
// ours, and the system calls it makes. Its figures are steadier than those of
// BenchmarkHitPath, and tell what a change is worth.
func BenchmarkHandler(b *testing.B) {
	for _, kind := range []string{"spans-off", "managed-identity", "on-behalf-of", "spans/otlp-100-percent"} {
		b.Run(kind, func(b *testing.B) {
			for _, variable := range collectorFor(b, kind) {
				name, value, _ := strings.Cut(variable, "=")
				b.Setenv(name, value)
			}
			dir, form := b.TempDir(), benchForm
			s := benchService(dir)
			if kind == "on-behalf-of" {
				user, err := os.ReadFile(filepath.Join(dir, "user-token"))
				check(b, err)
				form = benchUserForm + string(user)
			}
			r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/oauth2/token", nil)
			r.Header["Content-Type"] = []string{"application/x-www-form-urlencoded"}
			if kind == "managed-identity" {
				form = ""
				r = httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/msi/token?"+benchQuery, nil)
				r.Header["X-Identity-Header"] = []string{"none"}
			}
			benchHandler(b, s, r, form)
		})
	}
}

func benchHandler(b *testing.B, s *service, r *http.Request, form string) {
	b.Cleanup(func() { check(b, s.closeListeners()) })
	client, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", s.agentsAddr())
	check(b, err)
	server, err := s.tcp[0].Accept()
	check(b, err)
	b.Cleanup(func() { check(b, errors.Join(client.Close(), server.Close())) })
	body := strings.NewReader("")
	r = r.WithContext(s.agents.ConnContext(context.WithValue(b.Context(), http.LocalAddrContextKey, server.LocalAddr()), server))
	r.Host, r.RemoteAddr, r.ContentLength, r.Body = "127.0.0.1", server.RemoteAddr().String(), int64(len(form)), io.NopCloser(body)
	w := answerCounter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(form)
		s.agents.Handler.ServeHTTP(&w, r)
	}
	if w.status != 0 || w.bytes < 1_000*b.N {
		b.Fatalf("got status %d and %d bytes in %d answers, want tokens", w.status, w.bytes, b.N)
	}
}

// answerCounter is a http.ResponseWriter to nobody.
type answerCounter struct {
	header        http.Header
	status, bytes int
}

func (a *answerCounter) Header() http.Header  { return a.header }
func (a *answerCounter) WriteHeader(code int) { a.status = code }
func (a *answerCounter) Write(b []byte) (int, error) {
	a.bytes += len(b)
	return len(b), nil
}

// answerUsage prints the addresses, and what the process has used for each
// line it is sent, until its standard input ends.
func answerUsage(addresses ...string) {
	fmt.Println(strings.Join(addresses, " "))
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		cpu := cpuTime()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		fmt.Println(strconv.FormatFloat(cpu, 'f', 1, 64), memory.Mallocs)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

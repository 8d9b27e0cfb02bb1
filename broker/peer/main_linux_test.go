package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childRole makes the test binary act as another process: "get unix /path", "get tcp host:port" or "listen unix /path".
const childRole = "PEER_TEST_CHILD"

// strangerID is a uid and gid that owns nothing here.
const strangerID = 65534

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(runChild(strings.Fields(role)))
	}
	goleak.VerifyTestMain(m)
}

func runChild(role []string) int {
	verb, network, addr := role[0], role[1], role[2]
	if verb == "listen" {
		l, err := ListenUnix(addr)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		_ = l.Close()
		return 0
	}
	body, err := get(network, addr)
	fmt.Print(body)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// get asks a whoHandler.
func get(network, addr string) (string, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}}
	resp, err := client.Get("http://localhost/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// child plays a role in a process with other ids. Without root it runs under our own ids; the returned uid and gid are those it has.
func child(t *testing.T, uid, gid int, role string) (output string, realUID, realGID uint32, err error) {
	t.Helper()
	// Not by its path, which the other user may not be able to reach.
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{childRole + "=" + role, "GORACE=atexit_sleep_ms=0"}
	realUID, realGID = uint32(os.Getuid()), uint32(os.Getgid())
	if os.Getuid() == 0 {
		realUID, realGID = uint32(uid), uint32(gid)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: realUID, Gid: realGID}}
	}
	out, err := cmd.Output()
	return string(out), realUID, realGID, err
}

// who is the answer of whoHandler.
type who struct {
	Peer  Peer
	Error string
}

var whoHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	p, err := FromContext(r.Context())
	answer := who{Peer: p}
	if err != nil {
		answer.Error = err.Error()
	}
	if err := (Guard{}).Check(r); err != nil {
		answer.Error += err.Error()
	}
	_ = json.NewEncoder(w).Encode(answer)
})

func decodeWho(t *testing.T, body string) who {
	t.Helper()
	var w who
	if err := json.Unmarshal([]byte(body), &w); err != nil {
		t.Fatalf("answer %q: %v", body, err)
	}
	return w
}

// serve runs an http.Server on l until the test ends.
func serve(t *testing.T, l net.Listener, h http.Handler) {
	t.Helper()
	s := &http.Server{Handler: h, ConnContext: ConnContext, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done //nolint:errcheck // a channel
	})
}

// folder returns a short-named folder that every user can enter; t.TempDir's are long and closed.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "peer") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func listenUnix(t testing.TB, path string) net.Listener {
	t.Helper()
	l, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func listenLoopback(t testing.TB, addr string) net.Listener {
	t.Helper()
	l, err := ListenLoopback(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t testing.TB, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func accept(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("Accept: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// identify is what a request on c would learn.
func identify(c net.Conn) (Peer, error) {
	return FromContext(ConnContext(context.Background(), c))
}

// wantUnknown demands that nothing is known about who it is, and that the reason says want.
func wantUnknown(t *testing.T, p Peer, err error, want string) {
	t.Helper()
	if p.Known || p.UID != 0 || p.GID != 0 || p.PID != 0 {
		t.Errorf("got peer %+v, want nothing known", p)
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got reason %v, want one that says %q", err, want)
	}
}

package localapi

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/credfree/credfree/broker"
)

const (
	doorCallThrough = "call_through"

	// What the agent says to the broker; none of it is sent on.
	identityHeader  = "Credfree-Identity"   // identity to act as: <name>, or of a fleet <name>/<member>
	userTokenHeader = "Credfree-User-Token" // access token of the user on whose behalf the call is
	claimsHeader    = "Credfree-Claims"     // claims challenge to satisfy: base64 as in WWW-Authenticate, or the JSON itself

	defaultMaxBody = 64 << 20
	defaultIdle    = 10 * time.Minute

	// maxReplay bounds what is kept of a request to be sent once more.
	maxReplay = 1 << 20
)

// CallThrough says how APIs are called. The zero value has the limits that its
// fields name, and no proxy and no spans.
type CallThrough struct {
	// Transport carries the calls. It must verify certificates, follow no
	// redirects and leave bodies as they are. Nil means APITransport(nil, nil).
	Transport http.RoundTripper
	Tracer    trace.Tracer // makes the spans api.call; nil makes none
	Meter     metric.Meter // counts the calls; nil does not
	MaxBody   int64        // largest request body in bytes; 0 means 64 MiB
	// Idle is how long nothing may move in either direction before a call is cut:
	// while the API thinks, between two events, on a WebSocket. 0 means 10 minutes,
	// which is what SDKs of language models wait for an answer.
	Idle time.Duration

	duration metric.Float64Histogram // until the API's answer begins
}

func (c CallThrough) withDefaults() (CallThrough, error) {
	if c.Transport == nil {
		c.Transport = APITransport(nil, nil)
	}
	if c.Tracer == nil {
		c.Tracer = tracenoop.NewTracerProvider().Tracer("")
	}
	if c.Meter == nil {
		c.Meter = metricnoop.NewMeterProvider().Meter("")
	}
	c.MaxBody, c.Idle = cmp.Or(c.MaxBody, defaultMaxBody), cmp.Or(c.Idle, defaultIdle)
	var err error
	c.duration, err = c.Meter.Float64Histogram("credfree.api.duration", metric.WithUnit("s"),
		metric.WithDescription("Time of one request to an API until its answer begins, by API and class of status; error when there is no answer."),
		metric.WithExplicitBucketBoundaries(.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300))
	return c, err
}

// call is one request to call an API. It belongs to one request of an agent.
type call struct {
	*Handler
	w       http.ResponseWriter
	in      *http.Request
	req     broker.Request
	escaped string // path below the API's base URL, as the agent wrote it
	issued  broker.Issued
	began   string            // claims that the first token has, as the API has asked for; "" for none
	demand  [sha256.Size]byte // what they are remembered by
	target  *url.URL          // of the attempt under way
	watch   *watch
	span    trace.Span // of that attempt
	body    []byte     // of the request, when it was read ahead
	replay  bool       // the request can be sent once more
}

// callThrough calls an API with a token that the agent never sees:
// ANY /call/{api}/{path...}, with the query and the body as they are. The path
// is below the base URL of the API in the policy. The agent presents a key, if it
// needs one, as Bearer, Basic, X-IDENTITY-HEADER, api-key or x-api-key; what else
// it says to the broker is in the headers above.
//
// Answers come back as they are, but for what the API would have a client keep
// about its host. Redirects are not followed; a Location below the base URL leads
// through this door again, and any other, such as a signed address of a file, is
// the agent's to follow without a token. URLs in bodies are not changed, but for
// links to further pages where the policy says so.
func (h *Handler) callThrough(w http.ResponseWriter, r *http.Request) {
	// 1. What is to be called, and on whose behalf.
	c := &call{Handler: h, w: w, in: r, span: tracenoop.Span{}}
	problem := c.read()

	// 2. Whether the agent may, and with which token.
	if err := c.begin(problem); err != nil {
		c.fail(err)
		return
	}

	// 3. From here on the call takes as long as something moves.
	defer c.goOn()()
	if err := c.takeBody(); err != nil {
		c.fail(err)
		return
	}

	// 4. The call, streamed both ways. A failure after the first byte of the
	// answer cuts the connection, so that nobody takes half of it for the whole.
	proxy := httputil.ReverseProxy{
		Transport: c, Rewrite: c.rewrite, ModifyResponse: c.admit, FlushInterval: -1, BufferPool: copyBuffers{}, ErrorLog: noLog,
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { c.fail(err) },
	}
	proxy.ServeHTTP(w, c.in)
}

// goOn lets the call take as long as something moves and the rules allow it. over is
// for when the answer has been written.
func (c *call) goOn() (over func()) {
	body := c.in.Body
	c.watch, c.in = watchCall(c.w, c.in, c.calls.Idle)
	stop := c.broker.While(c.issued, func(why error) { c.watch.end(&revoked{why}) })
	return func() {
		stop()
		c.end()
		c.watch.stop(body)
	}
}

// noLog: what goes wrong with a call is in the answer and on its span.
var noLog = log.New(io.Discard, "", 0)

// takeBody bounds the body, and reads ahead what is small enough to be sent a
// second time. A body of unknown length is a stream, and is not held up.
func (c *call) takeBody() error {
	if c.in.ContentLength > c.calls.MaxBody {
		return bodyTooLarge(c.calls.MaxBody)
	}
	c.replay = c.in.ContentLength == 0
	c.in.Body = &agentBody{ReadCloser: http.MaxBytesReader(c.w, c.in.Body, c.calls.MaxBody), watch: c.watch}
	if c.in.ContentLength <= 0 || c.in.ContentLength > maxReplay {
		return nil
	}
	var err error
	if c.body, err = io.ReadAll(c.in.Body); err != nil {
		return err
	}
	c.replay = true
	c.in.Body = io.NopCloser(bytes.NewReader(c.body))
	return nil
}

// copyBuffers lend what bodies are copied with.
type copyBuffers struct{}

var copying = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// Get implements httputil.BufferPool.
func (copyBuffers) Get() []byte { return copying.Get().(*[32 << 10]byte)[:] }

// Put implements httputil.BufferPool.
func (copyBuffers) Put(b []byte) { copying.Put((*[32 << 10]byte)(b)) }

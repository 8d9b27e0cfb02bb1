package localapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// maxSidecarBody bounds the bodies of calls, in both directions: the whole answer
// stands in one JSON string. What is larger goes by call-through.
const maxSidecarBody = 4 << 20

// downstreamAPI calls an API with a token that the agent never sees, and puts
// what the API answers, whatever its status, into an object with status 200, as
// the auth sidecar does. That one loses all headers but those about the content,
// and changes what is not text: here nothing is lost that fits the form, and what
// does not fit is refused.
func (h *Handler) downstreamAPI(w http.ResponseWriter, r *http.Request, route, api string) {
	// 1. What is to be called, and on whose behalf.
	req, problem := h.sidecarOptions.readRequest(r, h.broker.Rules().Policy, route, api)
	c := &call{Handler: h, w: w, in: r, req: req.Request, escaped: req.call.escaped, span: tracenoop.Span{}}

	// 2. Whether the agent may, and with which token.
	if err := c.begin(problem); err != nil {
		h.failSidecar(w, c.issued, err, req.rule, http.MethodPost)
		return
	}

	// 3. The call, in the time that call-through has.
	defer c.goOn()()
	answer, err := c.exchange(req.call)
	if err != nil {
		h.failSidecar(w, c.issued, c.explain(err), "", http.MethodPost)
		return
	}
	if id := c.issued.Token.CorrelationID; id != "" {
		w.Header()[correlationHeader] = []string{id}
	}
	answer.write(w)
}

// sidecarCall is a call of an API.
type sidecarCall struct {
	escaped string // path below the base URL
	query   string
	header  http.Header
	ofType  string // Content-Type instead of the request's
}

// sidecarAnswer is what the auth sidecar makes of an API's answer.
type sidecarAnswer struct {
	StatusCode int         `json:"statusCode"`
	Headers    http.Header `json:"headers"`
	Content    *string     `json:"content"` // null when there is none
}

// exchange sends the call and reads its answer.
func (c *call) exchange(want sidecarCall) (*sidecarAnswer, error) {
	if err := c.readWhole(&want); err != nil {
		return nil, err
	}
	out := &http.Request{Method: c.req.Method, URL: &url.URL{RawQuery: want.query}, Header: want.header, ContentLength: int64(len(c.body)), Body: http.NoBody}
	resp, err := c.RoundTrip(out.WithContext(c.in.Context()))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(&apiBody{ReadCloser: resp.Body, watch: c.watch, end: func() {}}, maxSidecarBody+1))
	text, isText := decodeText(body, resp.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxSidecarBody:
		return nil, c.unfit("is larger than "+strconv.Itoa(maxSidecarBody)+" bytes", "ask it for less, or call it at /call/"+c.issued.API.Name+"/…, which passes on what the API sends")
	case !isText:
		return nil, c.unfit("is not text in UTF-8, UTF-16 or ISO-8859-1", "call it at /call/"+c.issued.API.Name+"/…, which passes on what the API sends")
	}
	for _, name := range append(c.kept(resp.Header), hopByHop...) {
		delete(resp.Header, name)
	}
	answer := &sidecarAnswer{StatusCode: resp.StatusCode, Headers: resp.Header}
	if len(body) > 0 {
		answer.Content = &text
	}
	return answer, nil
}

// readWhole reads the body of the request, which is sent on as it is. One whose
// type nobody says is not sent by the auth sidecar, without a word.
func (c *call) readWhole(want *sidecarCall) error {
	body, err := io.ReadAll(&agentBody{ReadCloser: http.MaxBytesReader(c.w, c.in.Body, maxSidecarBody), watch: c.watch})
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		problem := bodyTooLarge(tooLarge.Limit)
		problem.hint = "send less at once, or call the API at /call/" + c.issued.API.Name + "/…"
		return problem
	}
	if err != nil {
		return err
	}
	c.replay = true
	if len(body) == 0 {
		return nil
	}
	ofType := cmp.Or(want.ofType, c.in.Header.Get("Content-Type"))
	if _, _, err := mime.ParseMediaType(ofType); err != nil {
		return bad("the request has a body, and it is not said of which type", "send Content-Type, or "+overrideType)
	}
	c.body = body
	want.header.Set("Content-Type", ofType)
	return nil
}

// unfit is about an answer that has no place in the form of the auth sidecar. The
// call has been made, so its status is one that no client repeats a call for.
func (c *call) unfit(what, hint string) *badRequest {
	return &badRequest{status: http.StatusUnprocessableEntity, code: "api_answer_unfit", reason: "api_answer_unfit", message: "the answer of the API " + c.issued.API.Name + " " + what, hint: hint}
}

// hopByHop are the headers that mean something to one connection alone.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func (a *sidecarAnswer) write(w http.ResponseWriter) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(a); err != nil { // numbers and strings always encode
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header["Content-Type"] = sidecarJSON
	header["Content-Length"] = []string{strconv.Itoa(b.Len())}
	// The connection is the agent's: when it is gone, so is the reader.
	_, _ = w.Write(b.Bytes())
}

// sortedKeys keeps queries the same from call to call.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

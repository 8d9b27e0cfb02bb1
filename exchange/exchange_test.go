package exchange_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/workload"
)

const (
	authority = "https://login.entra.test"
	issuerURL = "https://cluster.test/oidc"
	graph     = "https://graph.microsoft.com/.default"
)

// issuerKey spares each test the time to make one.
var issuerKey = sync.OnceValue(func() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// entra is the emulator in process, with a client of it and the application's
// workload token in a file.
type entra struct {
	server *entratest.Server
	issuer *entratest.Issuer
	client *exchange.Client
	app    exchange.Application
	file   string
	sent   *recorder
	spans  *tracetest.SpanRecorder
}

func newEntra(t testing.TB, options ...func(*exchange.Config)) *entra {
	t.Helper()
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: issuerURL, Key: issuerKey()})
	if err != nil {
		t.Fatal(err)
	}
	server, err := entratest.New(entratest.Config{
		BaseURL: authority, Directory: entratest.DemoDirectory(issuerURL), HTTPClient: &http.Client{Transport: issuer.RoundTripper()},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := &entra{server: server, issuer: issuer, file: filepath.Join(t.TempDir(), "token"), spans: tracetest.NewSpanRecorder()}
	e.sent = &recorder{next: server.RoundTripper()}
	e.app = exchange.Application{Tenant: entratest.DemoTenantID, ClientID: entratest.DemoClientID, Source: workload.File{Path: e.file}}
	cfg := exchange.Config{
		Authority: authority, Audience: entratest.TokenExchangeAudience, Transport: e.sent,
		Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(e.spans)).Tracer("test"),
	}
	for _, option := range options {
		option(&cfg)
	}
	e.client, err = exchange.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.write(t, e.workloadToken(t, entratest.ServiceAccountToken{}))
	return e
}

func (e *entra) workloadToken(t testing.TB, token entratest.ServiceAccountToken) string {
	t.Helper()
	if token.Namespace == "" {
		token.Namespace, token.ServiceAccount = "agents", "demo"
	}
	text, err := e.issuer.ServiceAccountToken(token)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (e *entra) write(t testing.TB, text string) {
	t.Helper()
	if err := os.WriteFile(e.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (e *entra) ask(ctx context.Context, scopes ...string) (exchange.Token, error) {
	return e.client.Token(ctx, e.app, exchange.Request{Scopes: scopes})
}

// recorder keeps what was sent, and can put an answer in Entra's place.
type recorder struct {
	next   http.RoundTripper
	answer func(*http.Request) (*http.Response, error)
	before func(n int) // called before the nth request, from 0

	mu       sync.Mutex // guards the rest
	requests []*http.Request
	forms    []url.Values
	at       []time.Time
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	r.mu.Lock()
	n := len(r.requests)
	r.requests, r.forms, r.at = append(r.requests, req.Clone(context.Background())), append(r.forms, form), append(r.at, time.Now())
	r.mu.Unlock()
	if r.before != nil {
		r.before(n)
	}
	if r.answer != nil {
		return r.answer(req)
	}
	return r.next.RoundTrip(req)
}

// formOf reads the form of a request, and leaves it to be read again.
func formOf(req *http.Request) url.Values {
	body, _ := io.ReadAll(req.Body) // the recorder has read it from memory
	req.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body))
	return form
}

func respond(status int, contentType, body string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {contentType}}
		for i := 0; i+1 < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
	}
}

// asError returns the *exchange.Error in err, and fails the test without one.
func asError(t *testing.T, err error) *exchange.Error {
	t.Helper()
	var e *exchange.Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want an *exchange.Error", err)
	}
	return e
}

func TestAppToken(t *testing.T) {
	e := newEntra(t)
	token, err := e.ask(t.Context(), graph)
	if err != nil {
		t.Fatal(err)
	}
	if token.Kind != exchange.AppOnly || token.UniqueID == "" || token.Lifetime < time.Hour || token.Lifetime > 90*time.Minute {
		t.Errorf("got kind %s, uti %q, lifetime %s", token.Kind, token.UniqueID, token.Lifetime)
	}
	var claims struct{ Aud, Appid, Tid string }
	payload := strings.Split(token.Reveal(), ".")[1]
	if err := json.Unmarshal(decode(t, payload), &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Aud != "https://graph.microsoft.com" || claims.Appid != entratest.DemoClientID || claims.Tid != entratest.DemoTenantID {
		t.Errorf("got claims %+v", claims)
	}
	if got := len(e.sent.requests); got != 1 {
		t.Errorf("got %d requests, want 1: the metadata comes from memory", got)
	}
	if got := e.sent.requests[0].Header.Get("client-request-id"); got != token.CorrelationID {
		t.Errorf("got client-request-id %q, want %q", got, token.CorrelationID)
	}
	if token.RequestID == "" {
		t.Error("x-ms-request-id is not recorded")
	}
}

func TestCorrelationIDIsTheTraceID(t *testing.T) {
	e := newEntra(t)
	ctx, span := sdktrace.NewTracerProvider().Tracer("test").Start(t.Context(), "token.issue")
	defer span.End()
	token, err := e.ask(ctx, graph)
	if err != nil {
		t.Fatal(err)
	}
	want := span.SpanContext().TraceID().String()
	if got := strings.ReplaceAll(token.CorrelationID, "-", ""); got != want {
		t.Errorf("got correlation id %s, want the trace id %s", token.CorrelationID, want)
	}
	for _, header := range []string{"traceparent", "tracestate", "baggage"} {
		if got := e.sent.requests[0].Header.Get(header); got != "" {
			t.Errorf("header %s went to Entra: %q", header, got)
		}
	}
}

func TestTokenExpiresWithRefreshHint(t *testing.T) {
	e := newEntra(t)
	e.server.SetBehavior(entratest.Behavior{Lifetime: 24 * time.Hour, RefreshIn: 12 * time.Hour, ExpiresInAsString: true})
	token, err := e.ask(t.Context(), graph)
	if err != nil {
		t.Fatal(err)
	}
	if token.Lifetime.Round(time.Minute) != 24*time.Hour || token.RefreshIn.Round(time.Minute) != 12*time.Hour {
		t.Errorf("got lifetime %s, refresh in %s", token.Lifetime, token.RefreshIn)
	}
}

// What the platform hands out is wrong: explained here, and Entra not asked.
func TestPreflight(t *testing.T) {
	for name, test := range map[string]struct {
		write  func(t *testing.T, e *entra)
		reason exchange.Reason
		text   string
	}{
		"missing": {func(t *testing.T, e *entra) {
			if err := os.Remove(e.file); err != nil {
				t.Fatal(err)
			}
		}, exchange.AssertionUnavailable, "no such file"},
		"empty":   {func(t *testing.T, e *entra) { e.write(t, " \n") }, exchange.AssertionUnavailable, "empty"},
		"garbled": {func(t *testing.T, e *entra) { e.write(t, "not-a-token") }, exchange.AssertionUnusable, "not a signed JWT"},
		"huge":    {func(t *testing.T, e *entra) { e.write(t, strings.Repeat("x", 1<<20)) }, exchange.AssertionUnusable, "larger"},
		"folder":  {func(t *testing.T, e *entra) { e.app.Source = workload.File{Path: t.TempDir()} }, exchange.AssertionUnusable, "not a regular file"},
		"wrong audience": {func(t *testing.T, e *entra) {
			e.write(t, e.workloadToken(t, entratest.ServiceAccountToken{Audience: "https://kubernetes.default.svc"}))
		}, exchange.AssertionUnusable, "https://kubernetes.default.svc"},
		"expired": {func(t *testing.T, e *entra) {
			e.write(t, e.workloadToken(t, entratest.ServiceAccountToken{Lifetime: -time.Minute}))
		}, exchange.AssertionUnavailable, "expired"},
		"unsigned": {func(t *testing.T, e *entra) {
			parts := strings.Split(e.workloadToken(t, entratest.ServiceAccountToken{}), ".")
			e.write(t, encode(`{"alg":"none"}`)+"."+parts[1]+".")
		}, exchange.AssertionUnusable, "RS256"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEntra(t)
			test.write(t, e)
			_, err := e.ask(t.Context(), graph)
			got := asError(t, err)
			if got.Reason != test.reason || !strings.Contains(got.Message, test.text) || got.Hint == "" {
				t.Errorf("got %s %q (hint %q), want %s with %q", got.Reason, got.Message, got.Hint, test.reason, test.text)
			}
			if e.server.TokenRequests() != 0 {
				t.Error("Entra was asked all the same")
			}
		})
	}
}

// Entra refuses: the code, a hint that names what to change, and no body.
func TestRefusals(t *testing.T) {
	stranger := "00000000-0000-4000-8000-00000000dead"
	for name, test := range map[string]struct {
		change func(t *testing.T, e *entra)
		scope  string
		code   string
		aadsts int
		hint   string
	}{
		"unknown application": {func(_ *testing.T, e *entra) { e.app.ClientID = stranger }, graph, "unauthorized_client", 700016, stranger},
		"unknown tenant":      {func(_ *testing.T, e *entra) { e.app.Tenant = stranger }, graph, "invalid_request", 90002, stranger},
		"wrong subject": {func(t *testing.T, e *entra) {
			e.write(t, e.workloadToken(t, entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "other"}))
		}, graph, "invalid_client", 700213, "system:serviceaccount:agents:other"},
		"subject of another case": {func(t *testing.T, e *entra) {
			e.write(t, e.workloadToken(t, entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "Demo"}))
		}, graph, "invalid_client", 7002138, "but for its case"},
		"unknown resource": {nil, "https://nowhere.example/.default", "invalid_resource", 500011, "https://nowhere.example/.default"},
		"named scope":      {nil, "https://graph.microsoft.com/User.Read", "invalid_scope", 1002012, "/.default"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEntra(t)
				if test.change != nil {
					test.change(t, e)
				}
				_, err := e.ask(t.Context(), test.scope)
				got := asError(t, err)
				if got.Reason != exchange.EntraRejected || got.Code != test.code || !slices.Contains(got.Codes, test.aadsts) || !strings.Contains(got.Hint, test.hint) {
					t.Errorf("got %s %s %v, hint %q; want %s %d, hint with %q", got.Reason, got.Code, got.Codes, got.Hint, test.code, test.aadsts, test.hint)
				}
				if got.CorrelationID == "" || got.RequestID == "" || got.Temporary() {
					t.Errorf("got correlation id %q, request id %q, temporary %t", got.CorrelationID, got.RequestID, got.Temporary())
				}
			})
		})
	}
}

// Answers that are no token answers. The token text in them must not come out.
func TestHostileAnswers(t *testing.T) {
	const canary = "eyJhbGciOiJSUzI1NiJ9.eyJjYW5hcnkiOjF9.c2lnbmF0dXJl"
	const jsonType = "application/json; charset=utf-8"
	for name, test := range map[string]struct {
		answer func(*http.Request) (*http.Response, error)
		reason exchange.Reason
		wait   time.Duration
	}{
		"truncated":       {respond(200, jsonType, `{"token_type":"Bearer","expires_in":3599,"access_token":"`+canary), exchange.ReplyMalformed, 0},
		"wrong type":      {respond(200, jsonType, `{"token_type":"Bearer","expires_in":{},"access_token":"`+canary+`"}`), exchange.ReplyMalformed, 0},
		"wrong ext type":  {respond(200, jsonType, `{"token_type":"Bearer","expires_in":3599,"ext_expires_in":{},"access_token":"`+canary+`"}`), exchange.TokenMismatch, 0},
		"no expiry":       {respond(200, jsonType, `{"token_type":"Bearer","access_token":"`+canary+`"}`), exchange.ReplyMalformed, 0},
		"negative expiry": {respond(200, jsonType, `{"token_type":"Bearer","expires_in":-1,"access_token":"`+canary+`"}`), exchange.ReplyMalformed, 0},
		"no token":        {respond(200, jsonType, `{"token_type":"Bearer","expires_in":3599}`), exchange.ReplyMalformed, 0},
		"other type":      {respond(200, jsonType, `{"token_type":"pop","expires_in":3599,"access_token":"`+canary+`"}`), exchange.ReplyMalformed, 0},
		"unsafe token":    {respond(200, jsonType, `{"token_type":"Bearer","expires_in":3599,"access_token":"a\"b`+canary+`"}`), exchange.ReplyMalformed, 0},
		"html":            {respond(200, "text/html", "<html>"+canary+"</html>"), exchange.ReplyMalformed, 0},
		"html 400":        {respond(400, "text/html", "<html>"+canary+"</html>"), exchange.ReplyMalformed, 0},
		"huge":            {respond(200, jsonType, strings.Repeat(canary, 100_000)), exchange.ReplyMalformed, 0},
		"redirect":        {respond(307, jsonType, "", "Location", "https://evil.example/token"), exchange.ReplyMalformed, 0},
		"503":             {respond(503, "text/html", canary), exchange.EntraUnavailable, 0},
		"429 seconds":     {respond(429, jsonType, `{}`, "Retry-After", "7"), exchange.EntraThrottled, 7 * time.Second},
		"429 absurd":      {respond(429, jsonType, `{}`, "Retry-After", "999999999999"), exchange.EntraThrottled, time.Hour},
		"opaque token":    {respond(200, jsonType, `{"token_type":"Bearer","expires_in":3599,"access_token":"opaque"}`), exchange.TokenMismatch, 0},
		"refused": {func(*http.Request) (*http.Response, error) { return nil, errors.New("dial tcp: connection refused") },
			exchange.EntraUnavailable, 0},
		"later":     {respond(400, jsonType, `{"error":"temporarily_unavailable"}`), exchange.EntraUnavailable, 0},
		"not OAuth": {respond(400, jsonType, `{"message":"`+canary+`"}`), exchange.ReplyMalformed, 0},
		"odd code":  {respond(400, jsonType, `{"error":"`+canary+` \u0000","error_description":"`+canary+`"}`), exchange.EntraRejected, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEntra(t)
				e.sent.answer = test.answer
				token, err := e.ask(t.Context(), graph)
				got := asError(t, err)
				if got.Reason != test.reason || got.RetryAfter != test.wait {
					t.Errorf("got %s (%s), wait %s; want %s, wait %s", got.Reason, got.Message, got.RetryAfter, test.reason, test.wait)
				}
				if token.Len() != 0 {
					t.Error("a token came with the error")
				}
				requests := map[exchange.Reason]int{exchange.ReplyMalformed: 2, exchange.EntraUnavailable: 3}
				if want := max(requests[test.reason], 1); len(e.sent.requests) != want {
					t.Errorf("got %d requests, want %d", len(e.sent.requests), want)
				}
				_, again := e.ask(t.Context(), graph) // held back, or answered the same
				for _, text := range append(everyForm(err), everyForm(again)...) {
					if strings.Contains(text, canary) {
						t.Errorf("the error shows the body: %s", text)
					}
				}
			})
		})
	}
}

// everyForm prints an error in every way a program might.
func everyForm(err error) []string {
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Error("failed", "err", err)
	var texts []string
	for e := err; e != nil; e = errors.Unwrap(e) {
		texts = append(texts, e.Error(), fmt.Sprintf("%v %+v %#v %q", e, e, e, e))
		if text, jsonErr := json.Marshal(e); jsonErr == nil {
			texts = append(texts, string(text))
		}
	}
	return append(texts, log.String())
}

func TestTimeoutAndCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEntra(t)
		e.server.SetBehavior(entratest.Behavior{Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		started := time.Now()
		_, err := e.ask(ctx, graph)
		if got := asError(t, err); got.Reason != exchange.Timeout || !got.Temporary() {
			t.Errorf("got %s, want %s", got.Reason, exchange.Timeout)
		}
		if waited := time.Since(started); waited != 10*time.Second {
			t.Errorf("waited %s, want 10s", waited)
		}
	})
}

func TestSpans(t *testing.T) {
	e := newEntra(t)
	if _, err := e.ask(t.Context(), graph); err != nil {
		t.Fatal(err)
	}
	e.app.ClientID = "00000000-0000-4000-8000-00000000dead"
	if _, err := e.ask(t.Context(), graph); err == nil {
		t.Fatal("an unknown application got a token")
	}
	var names []string
	for _, span := range e.spans.Ended() {
		names = append(names, span.Name()+" "+span.Status().Code.String()+" "+span.Status().Description)
		if len(span.Events()) > 0 {
			t.Errorf("span %s has events: %v", span.Name(), span.Events())
		}
	}
	want := []string{"workload.token Unset ", "entra.token Unset ", "workload.token Unset ", "entra.token Error entra_rejected"}
	if !slices.Equal(names, want) {
		t.Errorf("got spans %q, want %q", names, want)
	}
	last := attribute.NewSet(e.spans.Ended()[3].Attributes()...)
	if code, _ := last.Value("credfree.entra.error_code"); code.AsInt64() != 700016 {
		t.Errorf("got error code %v, want 700016", code)
	}
}

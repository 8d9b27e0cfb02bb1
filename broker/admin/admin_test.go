package admin_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/recent"
)

func get(t *testing.T, h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(method, path, nil)
	req.Host, req.RemoteAddr = "127.0.0.1:7401", "127.0.0.1:5555"
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func handler(t *testing.T, parts ...admin.Part) *admin.Handler {
	t.Helper()
	return handlerWith(t, func(*admin.Config) {}, parts...)
}

func handlerWith(t *testing.T, change func(*admin.Config), parts ...admin.Part) *admin.Handler {
	t.Helper()
	cfg := admin.Config{
		Parts: func() []admin.Part { return parts }, Purge: func(admin.Selection) (admin.Purged, error) { return admin.Purged{}, nil }, Resolve: resolve,
		Memory: recent.New(time.Now()), Overview: overview,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if _, err := w.Write([]byte("a_metric 1\n")); err != nil {
				t.Error(err)
			}
		}),
	}
	change(&cfg)
	h, err := admin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func part(name string, state admin.PartState, reportOnly bool) admin.Part {
	return admin.Part{Name: name, ReportOnly: reportOnly, Check: func(ctx context.Context) admin.PartState {
		if _, ok := ctx.Deadline(); !ok {
			return admin.PartState{Error: "an unbounded check"}
		}
		return state
	}}
}

func TestReadinessTellsTheTruth(t *testing.T) {
	good, bad := admin.PartState{OK: true, Detail: "fine"}, admin.PartState{Error: "broken", Hint: "mend it"}
	for name, test := range map[string]struct {
		parts  []admin.Part
		status int
	}{
		"all well":            {[]admin.Part{part("a", good, false), part("b", good, true)}, 200},
		"one is not":          {[]admin.Part{part("a", bad, false), part("b", good, false)}, 503},
		"only reported":       {[]admin.Part{part("a", good, false), part("b", bad, true)}, 200},
		"a check says nought": {[]admin.Part{part("a", admin.PartState{}, false)}, 503},
	} {
		t.Run(name, func(t *testing.T) {
			w := get(t, handler(t, test.parts...), http.MethodGet, "/readyz")
			var state admin.State
			if err := json.Unmarshal(w.Body.Bytes(), &state); err != nil {
				t.Fatal(err)
			}
			if w.Code != test.status || state.Ready != (test.status == 200) || len(state.Parts) != len(test.parts) {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, test.status)
			}
			if strings.Contains(w.Body.String(), "broken") != strings.Contains(w.Body.String(), "mend it") {
				t.Errorf("an error without its hint: %s", w.Body)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	h := handler(t)
	for name, test := range map[string]struct {
		method, path string
		headers      []string
		status       int
	}{
		"health":       {"GET", "/healthz", nil, 200},
		"metrics":      {"GET", "/metrics", nil, 200},
		"unknown":      {"GET", "/token", nil, 404},
		"wrong method": {"POST", "/healthz", nil, 405},
		"a page":       {"GET", "/metrics", []string{"Origin", "https://evil.example"}, 403},
		"rebound name": {"GET", "/readyz", []string{"Host", "evil.example"}, 403},
		"a proxy":      {"GET", "/readyz", []string{"X-Forwarded-For", "10.0.0.1"}, 403},
	} {
		if w := get(t, h, test.method, test.path, test.headers...); w.Code != test.status || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %d %v, want %d", name, w.Code, w.Header(), test.status)
		}
	}
}

func TestMetricsAreRequired(t *testing.T) {
	if _, err := admin.New(admin.Config{}); err == nil {
		t.Error("a handler without metrics was made")
	}
}

package inject

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// world is a webhook with what it was seen to do.
type world struct {
	handler  http.Handler
	outcomes []Outcome
	log      bytes.Buffer
	account  func(context.Context, string, string) (Account, error)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{}
	handler, err := NewHandler(HandlerConfig{
		Injector: injector(t), Log: slog.New(slog.NewJSONHandler(&w.log, nil)),
		Observe: func(_ context.Context, outcome Outcome) { w.outcomes = append(w.outcomes, outcome) },
		Account: func(ctx context.Context, namespace, name string) (Account, error) {
			if w.account == nil {
				return Account{}, nil
			}
			return w.account(ctx, namespace, name)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.handler = handler
	return w
}

func (w *world) post(body, contentType string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, Path, strings.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, req)
	return recorder
}

// ask sends a review of an object.
func (w *world) ask(t *testing.T, object []byte, changes ...string) *response {
	t.Helper()
	body := `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u-1", "namespace": "agents", "operation": "CREATE",
		"resource": {"group": "", "version": "v1", "resource": "pods"}, "object": ` + string(object) + `}}`
	for i := 0; i+1 < len(changes); i += 2 {
		body = strings.Replace(body, changes[i], changes[i+1], 1)
	}
	recorder := w.post(body, "application/json")
	var answer review
	if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil || recorder.Code != http.StatusOK {
		t.Fatalf("got %d %s", recorder.Code, recorder.Body)
	}
	if answer.APIVersion != "admission.k8s.io/v1" || answer.Kind != "AdmissionReview" || answer.Response == nil || answer.Response.UID != "u-1" {
		t.Fatalf("got %s, want a review of the same uid", recorder.Body)
	}
	return answer.Response
}

func TestReviews(t *testing.T) {
	for name, test := range map[string]struct {
		object  []byte
		changes []string
		outcome Outcome
		code    int
		patched bool
	}{
		"a pod":            {podJSON(t), nil, Patched, 0, true},
		"a dry run":        {podJSON(t), []string{`"uid": "u-1"`, `"uid": "u-1", "dryRun": true`}, Patched, 0, true},
		"not labelled":     {podJSON(t, `"true"`, `"false"`), nil, Unchanged, 0, false},
		"refused":          {podJSON(t, `10001`, `0`), nil, Denied, 403, false},
		"not a pod":        {[]byte(`{"spec": []}`), nil, Invalid, 400, false},
		"an update":        {podJSON(t), []string{`"CREATE"`, `"UPDATE"`}, Unchanged, 0, false},
		"a subresource":    {podJSON(t), []string{`"uid": "u-1"`, `"uid": "u-1", "subResource": "ephemeralcontainers"`}, Unchanged, 0, false},
		"another resource": {podJSON(t), []string{`"pods"`, `"jobs"`}, Unchanged, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			got := w.ask(t, test.object, test.changes...)
			if got.Allowed != (test.code == 0) || (got.Patch != nil) != test.patched || (got.PatchType == "JSONPatch") != test.patched {
				t.Errorf("got %+v", got)
			}
			if test.code != 0 && (got.Status == nil || got.Status.Code != test.code || got.Status.Message == "") {
				t.Errorf("got status %+v, want code %d and a message", got.Status, test.code)
			}
			if diff := cmp.Diff([]Outcome{test.outcome}, w.outcomes); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if test.patched {
				var operations []Operation
				if err := json.Unmarshal(got.Patch, &operations); err != nil || len(operations) == 0 {
					t.Errorf("the patch is not one: %v", err)
				}
			}
		})
	}
}

func TestRequestsThatAreNoReviews(t *testing.T) {
	for name, test := range map[string]struct{ body, contentType string }{
		"empty":         {"", "application/json"},
		"text":          {"hello", "application/json"},
		"of other type": {`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u"}}`, "text/plain"},
		"old version":   {`{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "u"}}`, "application/json"},
		"no request":    {`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}`, "application/json"},
		"no uid":        {`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {}}`, "application/json"},
		"too large":     {`{"apiVersion": "` + strings.Repeat("a", maxReview), "application/json"},
	} {
		w := newWorld(t)
		if got := w.post(test.body, test.contentType); got.Code != http.StatusBadRequest || len(w.outcomes) != 1 || w.outcomes[0] != Invalid {
			t.Errorf("%s: got %d, %v; want 400, counted as invalid", name, got.Code, w.outcomes)
		}
	}
}

// TestTheLogHasNamesOnly sends a pod with a secret in every place.
func TestTheLogHasNamesOnly(t *testing.T) {
	const secret = "s3cr3t-0f-th3-p0d"
	w := newWorld(t)
	object := podJSON(t, `"name": "agent", `, `"name": "agent", "env": [{"name": "X", "value": "`+secret+`"}, {"name": "MSI_SECRET", "value": "`+secret+`"}], "args": ["`+secret+`"], `)
	if got := w.ask(t, object); !got.Allowed {
		t.Fatalf("got %+v", got)
	}
	w.ask(t, podJSON(t, `10001`, `0, "x": "`+secret+`"`))
	w.ask(t, []byte(`{"spec": {"containers": "`+secret+`"}}`))
	if !strings.Contains(w.log.String(), `"pod":"p"`) || strings.Contains(w.log.String(), secret) {
		t.Errorf("the log has no name, or a secret:\n%s", w.log.String())
	}
	for _, answer := range []*response{w.ask(t, object), w.ask(t, []byte(`{"spec": {"containers": "`+secret+`"}}`))} {
		text, err := json.Marshal([]any{answer.Status, answer.Warnings})
		if err != nil || bytes.Contains(text, []byte(secret)) {
			t.Errorf("a message has the secret: %s (%v)", text, err)
		}
	}
}

func TestAccountsAreReadForLabelledPodsOnly(t *testing.T) {
	var asked []string
	w := newWorld(t)
	w.account = func(_ context.Context, namespace, name string) (Account, error) {
		asked = append(asked, namespace+"/"+name)
		return Account{}, nil
	}
	w.ask(t, podJSON(t))
	w.ask(t, podJSON(t, `"spec": {`, `"spec": {"serviceAccountName": "research", `))
	w.ask(t, podJSON(t, `"true"`, `"false"`))
	if diff := cmp.Diff([]string{"agents/default", "agents/research"}, asked); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	w.account = func(context.Context, string, string) (Account, error) { return Account{}, errors.New("away") }
	if got := w.ask(t, podJSON(t)); got.Allowed || got.Status.Code != http.StatusInternalServerError {
		t.Errorf("got %+v, want no pod without its identity", got)
	}
}

func TestHandlerNeedsItsParts(t *testing.T) {
	if _, err := NewHandler(HandlerConfig{}); err == nil {
		t.Error("got a webhook made of nothing")
	}
}

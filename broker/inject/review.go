package inject

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"sync"
)

// Outcome is how one admission ended, from a closed set.
type Outcome string

// The outcomes of an admission.
const (
	Patched   Outcome = "patched"
	Unchanged Outcome = "unchanged" // not ours, or injected already
	Denied    Outcome = "refused"   // the pod cannot be safe as it is
	Invalid   Outcome = "invalid"   // not an admission review of a pod
	Failed    Outcome = "failed"    // the service account could not be read
)

// Path is where the webhook answers.
const Path = "/mutate"

// maxReview bounds an admission review: the API server stores no object of
// more than 1.5 MiB, and sends it once or twice.
const maxReview = 4 << 20

// HandlerConfig is what NewHandler needs.
type HandlerConfig struct {
	Injector *Injector    // required
	Log      *slog.Logger // required. It gets names and outcomes, and never what is in a pod
	// Account reads the annotations of a service account. Nil reads none.
	Account func(ctx context.Context, namespace, name string) (Account, error)
	// Observe is told of each admission. Required; called concurrently.
	Observe func(context.Context, Outcome)
}

// NewHandler returns the webhook, or an error when something required is missing.
func NewHandler(cfg HandlerConfig) (http.Handler, error) {
	if cfg.Injector == nil || cfg.Log == nil || cfg.Observe == nil {
		return nil, errors.New("the webhook needs an injector, a log and an observer")
	}
	mux, h := http.NewServeMux(), &handler{cfg: cfg}
	mux.Handle("POST "+Path, h)
	mux.HandleFunc("POST "+PolicyPath, h.admitPolicy)
	return mux, nil
}

type handler struct {
	cfg      HandlerConfig
	checking sync.Mutex // lets one policy be parsed at a time, which takes some memory
}

// The parts of admission.k8s.io/v1 that are used.
type (
	review struct {
		APIVersion string    `json:"apiVersion"`
		Kind       string    `json:"kind"`
		Request    *request  `json:"request,omitempty"`
		Response   *response `json:"response,omitempty"`
	}
	request struct {
		UID         string          `json:"uid"`
		Resource    resource        `json:"resource"`
		SubResource string          `json:"subResource"`
		Name        string          `json:"name"`
		Namespace   string          `json:"namespace"`
		Operation   string          `json:"operation"`
		Object      json.RawMessage `json:"object"`
		DryRun      bool            `json:"dryRun"`
	}
	resource struct {
		Group    string `json:"group"`
		Version  string `json:"version"`
		Resource string `json:"resource"`
	}
	response struct {
		UID       string   `json:"uid"`
		Allowed   bool     `json:"allowed"`
		Status    *status  `json:"status,omitempty"`
		Patch     []byte   `json:"patch,omitempty"`
		PatchType string   `json:"patchType,omitempty"`
		Warnings  []string `json:"warnings,omitempty"`
	}
	status struct {
		Code    int    `json:"code"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}
)

const reviewVersion, reviewKind = "admission.k8s.io/v1", "AdmissionReview"

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.answer(w, r, func(req *request) (response, Outcome) { return h.admit(r.Context(), req) })
}

// answer reads a review, has it decided, and writes the answer.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, decide func(*request) (response, Outcome)) {
	req, err := readReview(w, r)
	if err != nil {
		h.cfg.Observe(r.Context(), Invalid)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, outcome := decide(req)
	answer.UID = req.UID
	body, err := json.Marshal(review{APIVersion: reviewVersion, Kind: reviewKind, Response: &answer})
	if err != nil {
		h.cfg.Observe(r.Context(), Failed)
		http.Error(w, "the answer cannot be written", http.StatusInternalServerError)
		return
	}
	h.cfg.Observe(r.Context(), outcome)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // an API server that is gone asks again
}

func readReview(w http.ResponseWriter, r *http.Request) (*request, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, errors.New("the content type is not application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if err != nil {
		return nil, errors.New("the request ended early, or is too large")
	}
	var got review
	if json.Unmarshal(body, &got) != nil || got.APIVersion != reviewVersion || got.Kind != reviewKind || got.Request == nil || got.Request.UID == "" {
		return nil, errors.New("the request is not an AdmissionReview of " + reviewVersion)
	}
	return got.Request, nil
}

// admit decides on one object. It has no side effect, so a dry run is like
// every other.
func (h *handler) admit(ctx context.Context, req *request) (response, Outcome) {
	if (req.Resource != resource{Version: "v1", Resource: "pods"}) || req.SubResource != "" || req.Operation != "CREATE" {
		return response{Allowed: true}, Unchanged
	}
	log := h.cfg.Log.With("namespace", req.Namespace, "uid", req.UID, "dry_run", req.DryRun)
	p, _, err := readPod(req.Object)
	if err != nil {
		log.WarnContext(ctx, "not a pod")
		return deny(http.StatusBadRequest, "BadRequest", err), Invalid
	}
	account, err := h.account(ctx, req.Namespace, &p)
	if err != nil {
		log.ErrorContext(ctx, "service account not read", "pod", p.name(), "service_account", p.Spec.ServiceAccountName, "error", err.Error())
		return deny(http.StatusInternalServerError, "InternalError", err), Failed
	}
	patch, err := h.cfg.Injector.Pod(req.Object, account)
	if refused, ok := errors.AsType[*Refused](err); ok {
		log.WarnContext(ctx, "pod refused", "pod", refused.Pod, "problems", len(refused.Problems))
		return deny(http.StatusForbidden, "Forbidden", refused), Denied
	}
	if err != nil {
		log.WarnContext(ctx, "not a pod")
		return deny(http.StatusBadRequest, "BadRequest", err), Invalid
	}
	if len(patch.Operations) == 0 {
		return response{Allowed: true, Warnings: patch.Warnings}, Unchanged
	}
	operations, err := json.Marshal(patch.Operations)
	if err != nil {
		return deny(http.StatusInternalServerError, "InternalError", errors.New("the patch cannot be written")), Failed
	}
	log.InfoContext(ctx, "pod injected", "pod", p.name())
	return response{Allowed: true, Patch: operations, PatchType: "JSONPatch", Warnings: patch.Warnings}, Patched
}

func deny(code int, reason string, err error) response {
	return response{Status: &status{Code: code, Reason: reason, Message: err.Error()}}
}

// account reads the service account of a pod that gets a broker.
func (h *handler) account(ctx context.Context, namespace string, p *pod) (Account, error) {
	if h.cfg.Account == nil || p.Metadata.Labels[Label] != "true" {
		return Account{}, nil
	}
	name := p.Spec.ServiceAccountName
	if name == "" {
		name = "default"
	}
	return h.cfg.Account(ctx, namespace, name)
}

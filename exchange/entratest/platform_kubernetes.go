package entratest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// tokenRequest is the part of authentication.k8s.io/v1 TokenRequest that counts.
type tokenRequest struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Spec       struct {
		Audiences         []string `json:"audiences"`
		ExpirationSeconds *int64   `json:"expirationSeconds"`
		BoundObjectRef    *struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"boundObjectRef"`
	} `json:"spec"`
}

const (
	shortestToken = 10 * time.Minute
	longestToken  = 1 << 32 // seconds
)

// NewTokenRequest is the TokenRequest API of a Kubernetes API server:
// POST /api/v1/namespaces/{namespace}/serviceaccounts/{name}/token.
func NewTokenRequest(cfg WorkloadConfig) (*PlatformEndpoint, error) {
	e, err := cfg.endpoint(Kubernetes, AKS, EKS, GKE)
	if err != nil {
		return nil, err
	}
	e.serve = func(r *http.Request, rec *PlatformRequest) reply {
		namespace, name, ok := serviceAccountPath(r.URL.Path)
		if !ok {
			return kubernetesStatus(rec, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
		}
		rec.Identity = namespace + "/" + name
		if !e.bearer(r) {
			return kubernetesStatus(rec, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
		}
		if r.Method != http.MethodPost {
			rep := kubernetesStatus(rec, http.StatusMethodNotAllowed, "MethodNotAllowed", "the server does not allow this method on the requested resource")
			rep.header.Set("Allow", http.MethodPost)
			return rep
		}
		if !cfg.exists(rec.Identity) {
			return kubernetesStatus(rec, http.StatusNotFound, "NotFound", `serviceaccounts "`+recordable(name)+`" not found`)
		}
		return cfg.tokenRequest(r, namespace, name, rec)
	}
	return e, nil
}

func serviceAccountPath(path string) (namespace, name string, ok bool) {
	parts := strings.Split(path, "/")
	if len(parts) != 8 || strings.Join(parts[:4], "/") != "/api/v1/namespaces" || parts[5] != "serviceaccounts" || parts[7] != "token" {
		return "", "", false
	}
	return parts[4], parts[6], parts[4] != "" && parts[6] != ""
}

func (cfg WorkloadConfig) tokenRequest(r *http.Request, namespace, name string, rec *PlatformRequest) reply {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxForm))
	var asked tokenRequest
	if err != nil || json.Unmarshal(body, &asked) != nil {
		return kubernetesStatus(rec, http.StatusBadRequest, "BadRequest", "the object provided is unrecognized")
	}
	if asked.Kind != "" && asked.Kind != "TokenRequest" || asked.APIVersion != "" && asked.APIVersion != "authentication.k8s.io/v1" {
		return kubernetesStatus(rec, http.StatusBadRequest, "BadRequest", "no kind \""+recordable(asked.Kind)+"\" is registered for version \""+recordable(asked.APIVersion)+"\"")
	}
	lifetime := time.Hour
	if asked.Spec.ExpirationSeconds != nil {
		n := *asked.Spec.ExpirationSeconds
		if n < int64(shortestToken/time.Second) {
			return kubernetesStatus(rec, http.StatusUnprocessableEntity, "Invalid", "spec.expirationSeconds: Invalid value: may not specify a duration less than 10 minutes")
		}
		if n > longestToken {
			return kubernetesStatus(rec, http.StatusUnprocessableEntity, "Invalid", "spec.expirationSeconds: Invalid value: may not specify a duration larger than 2^32 seconds")
		}
		lifetime = time.Duration(n) * time.Second
	}
	audiences := asked.Spec.Audiences
	if len(audiences) == 0 {
		audiences = []string{cfg.Issuer.cfg.URL} // the API server's own
	}
	rec.Audience = strings.Join(audiences, ",")

	claims := map[string]any{"aud": audiences}
	parameters := map[string]string{"namespace": namespace, "serviceaccount": name}
	account := map[string]any{"name": name, "uid": derivedGUID(cfg.Issuer.cfg.URL, "serviceaccount", namespace, name)}
	bound := map[string]any{"namespace": namespace, "serviceaccount": account}
	if ref := asked.Spec.BoundObjectRef; ref != nil && ref.Kind == "Pod" {
		bound["pod"] = map[string]any{"name": ref.Name, "uid": derivedGUID(cfg.Issuer.cfg.URL, "pod", namespace, ref.Name)}
	}
	claims["kubernetes.io"] = bound
	token, err := cfg.Issuer.WorkloadToken(Workload{
		Parameters: parameters, Lifetime: lifetime, Claims: claims,
		Subject: "system:serviceaccount:" + namespace + ":" + name,
	})
	if err != nil {
		return kubernetesStatus(rec, http.StatusInternalServerError, "InternalError", "the token could not be signed")
	}
	return jsonReply(http.StatusCreated, map[string]any{
		"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
		"metadata": map[string]any{"name": name, "namespace": namespace, "creationTimestamp": timestamp(cfg.Issuer.cfg.Now())},
		"spec":     map[string]any{"audiences": audiences, "expirationSeconds": int64(lifetime / time.Second), "boundObjectRef": asked.Spec.BoundObjectRef},
		"status":   map[string]any{"token": token, "expirationTimestamp": timestamp(cfg.Issuer.cfg.Now().Add(lifetime))},
	})
}

// kubernetesStatus is the object API servers answer with when they refuse.
func kubernetesStatus(rec *PlatformRequest, status int, reason, message string) reply {
	rec.Error = reason
	return jsonReply(status, map[string]any{
		"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{},
		"status": "Failure", "message": message, "reason": reason, "code": status,
	})
}

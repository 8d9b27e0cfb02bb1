package workload

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// KubernetesTokenRequest asks the cluster's API server for a token of a service
// account (TokenRequest, authentication.k8s.io/v1), with the pod's own token. It
// is for pods that cannot have a projected volume with the right audience; File
// with such a volume needs no rights. The API server is that of
// KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
type KubernetesTokenRequest struct {
	Namespace      string // empty: the pod's own
	ServiceAccount string // required
	Audience       string // required
	// Folder has the pod's token, ca.crt and namespace, read at each exchange.
	// Empty: /var/run/secrets/kubernetes.io/serviceaccount.
	Folder string
	// Transport sends the request. Nil: without a proxy, to a server that ca.crt
	// vouches for.
	Transport http.RoundTripper
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string
}

// kubernetesName is an RFC 1123 subdomain; it cannot lead to another path.
var kubernetesName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// tokenSeconds is the shortest life that API servers grant. The token is
// exchanged at once.
const tokenSeconds = 600

// Assertion implements Source.
func (k KubernetesTokenRequest) Assertion(ctx context.Context) (Assertion, error) {
	const who = "the Kubernetes API server"
	if k.Audience == "" {
		return Assertion{}, noAudience(who)
	}
	folder := cmp.Or(k.Folder, "/var/run/secrets/kubernetes.io/serviceaccount")
	u, err := k.server(who)
	if err != nil {
		return Assertion{}, err
	}
	namespace := k.Namespace
	if namespace == "" {
		if namespace, err = credentialFile(filepath.Join(folder, "namespace")); err != nil {
			return Assertion{}, err
		}
	}
	for _, name := range []string{namespace, k.ServiceAccount} {
		if !kubernetesName.MatchString(name) || strings.Contains(name, "..") {
			return Assertion{}, &Error{Problem: Malformed, Message: quote(name) + " is not the name of a Kubernetes namespace or service account", Hint: "use a-z, 0-9, hyphen and dot"}
		}
	}
	bearer, err := credentialFile(filepath.Join(folder, "token"))
	if err != nil {
		return Assertion{}, err
	}
	transport := k.Transport
	if transport == nil {
		roots, err := readRoots(filepath.Join(folder, "ca.crt"))
		if err != nil {
			return Assertion{}, err
		}
		transport = direct(roots)
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
		"spec": map[string]any{"audiences": []string{k.Audience}, "expirationSeconds": tokenSeconds},
	})
	if err != nil {
		return Assertion{}, &Error{Problem: Malformed, Message: "the TokenRequest cannot be written", Hint: "check the audience", Err: err}
	}
	return request{
		who: who, method: http.MethodPost, url: u.JoinPath("api", "v1", "namespaces", namespace, "serviceaccounts", k.ServiceAccount, "token"),
		header: http.Header{"Authorization": {"Bearer " + bearer}, "Content-Type": {"application/json"}, "Accept": {"application/json"}}, body: body,
		pointer: "/status/token", transport: transport,
		denied: "grant the pod's service account create on serviceaccounts/token of " + k.ServiceAccount + " in " + namespace + ", and check that it exists",
	}.token(ctx)
}

// server is the API server that a pod finds in its environment.
func (k KubernetesTokenRequest) server(who string) (*url.URL, error) {
	const hint = "the kubelet sets it in every pod: this source works inside a cluster only"
	host, port := getenv(k.Getenv, "KUBERNETES_SERVICE_HOST"), getenv(k.Getenv, "KUBERNETES_SERVICE_PORT")
	if host == "" {
		return nil, unset("KUBERNETES_SERVICE_HOST", hint)
	}
	if port == "" {
		return nil, unset("KUBERNETES_SERVICE_PORT", hint)
	}
	return parseURL(who, "https://"+net.JoinHostPort(host, port))
}

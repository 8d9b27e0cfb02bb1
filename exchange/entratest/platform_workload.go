package entratest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// WorkloadConfig configures an endpoint that hands out an Issuer's tokens.
type WorkloadConfig struct {
	// Issuer signs the tokens, and has the Platform of the endpoint. Required.
	Issuer *Issuer
	// Workload is the job, pod or instance that asks. What the request decides
	// (audience, lifetime, algorithm) is overwritten.
	Workload Workload
	// Secret is what callers must present. Empty: a random one.
	Secret string
	// Names are the workloads that exist, where the request names one: the
	// service accounts of Kubernetes as namespace/name, the service connections
	// of Azure DevOps by id. Empty: all.
	Names []string
	// Roles are the roles of Vault and the audience of each.
	Roles map[string]string
	// Entra issues the tokens of Azure DevOps service connections when it is
	// set, as for all connections made today. Nil: the Issuer does.
	Entra *Server
}

// endpoint checks cfg and makes an endpoint that serves nothing yet.
func (cfg WorkloadConfig) endpoint(platforms ...Platform) (*PlatformEndpoint, error) {
	if cfg.Issuer == nil {
		return nil, errors.New("entratest: workload endpoint: Issuer is required")
	}
	if got := cfg.Issuer.cfg.Platform; !slices.Contains(platforms, got) {
		return nil, fmt.Errorf("entratest: workload endpoint: the issuer's platform is %s, not %s", got, platforms[0])
	}
	if _, _, err := cfg.Issuer.describe(cfg.Workload); err != nil {
		return nil, err
	}
	return newPlatformEndpoint(cfg.Secret, cfg.Issuer.cfg.Now), nil
}

func (cfg WorkloadConfig) exists(name string) bool {
	return len(cfg.Names) == 0 || slices.Contains(cfg.Names, name)
}

// NewGitHubActions is where a job asks for its ID token:
// ACTIONS_ID_TOKEN_REQUEST_URL, which already has a query.
func NewGitHubActions(cfg WorkloadConfig) (*PlatformEndpoint, error) {
	e, err := cfg.endpoint(GitHubActions)
	if err != nil {
		return nil, err
	}
	e.serve = func(r *http.Request, rec *PlatformRequest) reply {
		if r.Method != http.MethodGet {
			return notAllowed(http.MethodGet)
		}
		if !e.bearer(r) {
			rec.Error = "unauthorized"
			return jsonReply(http.StatusUnauthorized, map[string]any{"message": "Not authorized: the request token is missing or wrong"})
		}
		w := cfg.Workload
		rec.Audience = r.URL.Query().Get("audience")
		if w.Audience = rec.Audience; w.Audience == "" {
			// What nobody wants for Entra, and what is forgotten most often.
			w.Audience = "https://github.com/" + cfg.parameter("owner")
		}
		token, err := cfg.Issuer.WorkloadToken(w)
		if err != nil {
			return failedToSign(rec)
		}
		return jsonReply(http.StatusOK, map[string]any{"count": len(token), "value": token})
	}
	e.environment = func(e *PlatformEndpoint, base string) map[string]string {
		return map[string]string{
			"ACTIONS_ID_TOKEN_REQUEST_URL":   base + "/idtoken/" + derivedGUID(base, "job") + "?api-version=2.0",
			"ACTIONS_ID_TOKEN_REQUEST_TOKEN": e.secret,
		}
	}
	return e, nil
}

// parameter is the value of one of the workload's parameters.
func (cfg WorkloadConfig) parameter(name string) string {
	if value, ok := cfg.Workload.Parameters[name]; ok {
		return value
	}
	return cfg.Issuer.spec.parameters[name]
}

func failedToSign(rec *PlatformRequest) reply {
	rec.Error = "unknown"
	return jsonReply(http.StatusInternalServerError, map[string]string{"message": "the token could not be signed"})
}

// NewAzureDevOps is SYSTEM_OIDCREQUESTURI: a POST gives the token of the
// pipeline, or of the service connection that serviceConnectionId names.
func NewAzureDevOps(cfg WorkloadConfig) (*PlatformEndpoint, error) {
	e, err := cfg.endpoint(AzureDevOps)
	if err != nil {
		return nil, err
	}
	fail := func(rec *PlatformRequest, status int, kind, message string) reply {
		rec.Error = kind
		return jsonReply(status, map[string]any{"$id": "1", "message": message, "typeKey": kind, "errorCode": 0, "eventId": 3000})
	}
	e.serve = func(r *http.Request, rec *PlatformRequest) reply {
		if r.Method != http.MethodPost {
			return notAllowed(http.MethodPost)
		}
		if !e.bearer(r) {
			return fail(rec, http.StatusUnauthorized, "UnauthorizedRequestException", "The access token is missing or wrong.")
		}
		query := r.URL.Query()
		if version, _, _ := strings.Cut(query.Get("api-version"), "-"); version == "" {
			return fail(rec, http.StatusBadRequest, "VssVersionNotSpecifiedException", "No api-version was supplied for the \"POST\" request.")
		}
		rec.Identity, rec.Audience = query.Get("serviceConnectionId"), TokenExchangeAudience
		if rec.Identity != "" && (canonicalGUID(rec.Identity) == "" || !cfg.exists(rec.Identity)) {
			return fail(rec, http.StatusNotFound, "ServiceEndpointNotFoundException", "The service connection was not found.")
		}
		token, err := cfg.connectionToken(rec.Identity)
		if err != nil {
			return failedToSign(rec)
		}
		return jsonReply(http.StatusOK, map[string]string{"oidcToken": token})
	}
	e.environment = func(e *PlatformEndpoint, base string) map[string]string {
		return map[string]string{
			"SYSTEM_OIDCREQUESTURI": base + "/" + cfg.parameter("organization") + "/" + cfg.parameter("project_id") +
				"/_apis/distributedtask/hubs/build/plans/" + derivedGUID(base, "plan") + "/jobs/" + derivedGUID(base, "job") + "/oidctoken",
			"SYSTEM_ACCESSTOKEN": e.secret,
		}
	}
	return e, nil
}

// connectionToken is the token of a service connection, or of the pipeline when
// the request named none.
func (cfg WorkloadConfig) connectionToken(connection string) (string, error) {
	if connection != "" && cfg.Entra != nil {
		return cfg.Entra.ServiceConnectionToken("", cfg.parameter("organization_id"), connection, 0)
	}
	w := cfg.Workload
	w.Form, w.Audience = "connection", TokenExchangeAudience
	if connection == "" {
		w.Form = "pipeline"
	}
	return cfg.Issuer.WorkloadToken(w)
}

// NewGoogleMetadata is the metadata server of a Google Cloud instance,
// http://metadata.google.internal/computeMetadata/v1/….
func NewGoogleMetadata(cfg WorkloadConfig) (*PlatformEndpoint, error) {
	e, err := cfg.endpoint(GoogleCloud)
	if err != nil {
		return nil, err
	}
	answer := func(status int, text string) reply {
		rep := textReply(status, text)
		rep.header.Set("Metadata-Flavor", "Google")
		rep.header.Set("Server", "Metadata Server for VM")
		return rep
	}
	fail := func(rec *PlatformRequest, status int, code, text string) reply {
		rec.Error = code
		return answer(status, text+"\n")
	}
	e.serve = func(r *http.Request, rec *PlatformRequest) reply {
		if r.Method != http.MethodGet {
			return notAllowed(http.MethodGet)
		}
		if r.Header.Get("Metadata-Flavor") != "Google" || r.Header.Get("X-Forwarded-For") != "" {
			return fail(rec, http.StatusForbidden, "forbidden", "Missing Metadata-Flavor:Google header.")
		}
		account, ok := strings.CutPrefix(r.URL.Path, "/computeMetadata/v1/instance/service-accounts/")
		account, identity := strings.CutSuffix(account, "/identity")
		if rec.Identity = account; !ok || !identity || account != "default" && account != cfg.parameter("email") {
			return fail(rec, http.StatusNotFound, "not_found", "Not found")
		}
		w, query := cfg.Workload, r.URL.Query()
		if w.Audience, rec.Audience = query.Get("audience"), query.Get("audience"); w.Audience == "" {
			return fail(rec, http.StatusBadRequest, "invalid_request", "non-empty audience parameter required")
		}
		switch w.Form = query.Get("format"); w.Form {
		case "":
			w.Form = "standard"
		case "standard", "full":
		default:
			return fail(rec, http.StatusBadRequest, "invalid_request", "invalid format parameter")
		}
		token, err := cfg.Issuer.WorkloadToken(w)
		if err != nil {
			return failedToSign(rec)
		}
		return answer(http.StatusOK, token)
	}
	e.environment = func(_ *PlatformEndpoint, base string) map[string]string {
		return map[string]string{"GCE_METADATA_HOST": strings.TrimPrefix(base, "http://")}
	}
	return e, nil
}

// NewVault is Vault's API for identity tokens, /v1/identity/oidc/token/{role}.
// The audience belongs to the role: a caller cannot choose it.
func NewVault(cfg WorkloadConfig) (*PlatformEndpoint, error) {
	e, err := cfg.endpoint(Vault)
	if err != nil {
		return nil, err
	}
	if len(cfg.Roles) == 0 {
		return nil, errors.New("entratest: workload endpoint: Vault needs Roles")
	}
	cfg.Roles = maps.Clone(cfg.Roles)
	fail := func(rec *PlatformRequest, status int, message string) reply {
		rec.Error = message
		return jsonReply(status, map[string]any{"errors": []string{message}})
	}
	e.serve = func(r *http.Request, rec *PlatformRequest) reply {
		role, ok := strings.CutPrefix(r.URL.Path, "/v1/identity/oidc/token/")
		if !ok || role == "" || strings.Contains(role, "/") {
			return fail(rec, http.StatusNotFound, "no handler for route")
		}
		if r.Method != http.MethodGet {
			return fail(rec, http.StatusMethodNotAllowed, "unsupported operation")
		}
		rec.Identity = role
		presented := r.Header.Get("X-Vault-Token")
		if presented == "" {
			_, presented, _ = strings.Cut(r.Header.Get("Authorization"), "Bearer ")
		}
		if !e.knows(presented) {
			return fail(rec, http.StatusForbidden, "permission denied")
		}
		audience, ok := cfg.Roles[role]
		if !ok {
			return fail(rec, http.StatusBadRequest, "role not found")
		}
		w := cfg.Workload
		w.Audience, rec.Audience = audience, audience
		token, err := cfg.Issuer.WorkloadToken(w)
		if err != nil {
			return failedToSign(rec)
		}
		ttl := w.Lifetime
		if ttl == 0 {
			ttl = cfg.Issuer.spec.lifetime
		}
		return jsonReply(http.StatusOK, map[string]any{
			"request_id": uuid.NewString(), "lease_id": "", "renewable": false, "lease_duration": 0,
			"data":      map[string]any{"client_id": audience, "token": token, "ttl": int64(ttl / time.Second)},
			"wrap_info": nil, "warnings": nil, "auth": nil,
		})
	}
	e.environment = func(e *PlatformEndpoint, base string) map[string]string {
		return map[string]string{"VAULT_ADDR": base, "VAULT_TOKEN": e.secret}
	}
	return e, nil
}

// wholeSeconds reads a duration that a request gives in seconds, within limits.
func wholeSeconds(text string, usual, shortest, longest time.Duration) (time.Duration, error) {
	if text == "" {
		return usual, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, errors.New("not a whole number of seconds")
	}
	if n < int64(shortest/time.Second) || n > int64(longest/time.Second) {
		return 0, fmt.Errorf("not between %d and %d seconds", int64(shortest/time.Second), int64(longest/time.Second))
	}
	return time.Duration(n) * time.Second, nil
}

package localapi

import (
	"net/http"

	"github.com/credfree/credfree/broker/client"
)

// metadata describes the OAuth door (RFC 8414 §2). The issuer is the host the
// client asked, which the guard has compared.
func (h *Handler) metadata(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuseToWrite(w)
		return
	}
	issuer := "http://" + r.Host
	methods := []string{"none", "client_secret_basic", "client_secret_post"}
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                        issuer,
		"token_endpoint":                                issuer + client.TokenPath,
		"introspection_endpoint":                        issuer + introspectionPath,
		"grant_types_supported":                         []string{grantClientCredentials, grantTokenExchange, grantJWTBearer},
		"response_types_supported":                      []string{},
		"token_endpoint_auth_methods_supported":         methods,
		"introspection_endpoint_auth_methods_supported": methods,
		"claims_parameter_supported":                    true,
		// Of RFC 8707, which registers no name of its own.
		"resource_parameter_supported": true,
	})
}

// refuseToWrite answers any other method where there is only something to read.
func refuseToWrite(w http.ResponseWriter) {
	w.Header().Set("Allow", "GET, HEAD")
	writeError(w, http.StatusMethodNotAllowed, client.Error{Code: invalidRequest, RefusedBy: client.ByBroker, Description: "this is read with GET", Hint: "use GET"})
}

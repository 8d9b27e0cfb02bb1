package localapi

import (
	"net/http"

	"github.com/credfree/credfree/broker/client"
)

// metadata describes the OAuth door (RFC 8414 §2). The issuer is the host the
// client asked, which the guard has compared.
func (h *Handler) metadata(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeError(w, http.StatusMethodNotAllowed, client.Error{Code: invalidRequest, RefusedBy: client.ByBroker, Description: "metadata is read with GET"})
		return
	}
	issuer := "http://" + r.Host
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                issuer,
		"token_endpoint":                        issuer + client.TokenPath,
		"grant_types_supported":                 []string{grantClientCredentials, grantTokenExchange, grantJWTBearer},
		"response_types_supported":              []string{},
		"token_endpoint_auth_methods_supported": []string{"none", "client_secret_basic", "client_secret_post"},
		"claims_parameter_supported":            true,
		// Of RFC 8707, which registers no name of its own.
		"resource_parameter_supported": true,
	})
}

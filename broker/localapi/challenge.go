package localapi

import (
	"encoding/base64"
	"net/http"

	"github.com/credfree/credfree/broker"
)

// challenge passes a claims challenge of Entra on in the form in which an API
// would raise it, for whoever signs the user in:
// https://learn.microsoft.com/entra/identity-platform/claims-challenge.
// The answer's body has the same claims, not encoded.
func challenge(w http.ResponseWriter, authority string, issued broker.Issued, claims string) {
	if len(claims) > maxClaimsBytes {
		return // clients bound their headers; the body has it all
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="", authorization_uri="`+authority+"/"+issued.Tenant+`/oauth2/v2.0/authorize", client_id="`+issued.ClientID+`", `+
		`error="insufficient_claims", claims="`+base64.StdEncoding.EncodeToString([]byte(claims))+`"`)
}

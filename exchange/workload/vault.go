package workload

import (
	"context"
	"crypto/x509"
	"net/http"
	"regexp"
)

// Vault asks HashiCorp Vault or OpenBao for an identity token of a role. The
// server and its CA are those of VAULT_ADDR, VAULT_CACERT and VAULT_NAMESPACE; a
// VAULT_SKIP_VERIFY is not heeded. The token's audience is the role's client_id,
// which must be the one that Entra expects. See
// https://developer.hashicorp.com/vault/docs/secrets/identity/identity-token.
type Vault struct {
	Role string // required
	// TokenFile has the Vault token, as Vault Agent writes it, and is read at
	// each exchange. Empty: the token is in VAULT_TOKEN.
	TokenFile string
	// Transport sends the request. Nil: without a proxy, to a server that
	// VAULT_CACERT or the system's roots vouch for.
	Transport http.RoundTripper
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string
}

// vaultRole is what Vault itself accepts, and cannot lead to another path.
var vaultRole = regexp.MustCompile(`^\w([\w.-]*\w)?$`)

// Assertion implements Source.
func (v Vault) Assertion(ctx context.Context) (Assertion, error) {
	if !vaultRole.MatchString(v.Role) {
		return Assertion{}, &Error{Problem: Malformed, Message: "the Vault role " + quote(v.Role) + " is not a name", Hint: "use letters, digits, dots, underscores and hyphens, as Vault does"}
	}
	address := getenv(v.Getenv, "VAULT_ADDR")
	if address == "" {
		return Assertion{}, unset("VAULT_ADDR", "set it to the origin of the Vault server, such as https://vault.example.com:8200")
	}
	u, err := parseURL("Vault", address)
	if err != nil {
		return Assertion{}, err
	}
	var token string
	if v.TokenFile != "" {
		token, err = credentialFile(v.TokenFile)
	} else {
		token, err = variable("VAULT_TOKEN", v.Getenv)
	}
	if err != nil {
		return Assertion{}, err
	}
	header := http.Header{"X-Vault-Token": {token}, "X-Vault-Request": {"true"}}
	if name := getenv(v.Getenv, "VAULT_NAMESPACE"); name != "" {
		if name, err = line(`the variable "VAULT_NAMESPACE"`, name); err != nil {
			return Assertion{}, err
		}
		header.Set("X-Vault-Namespace", name)
	}
	transport := v.Transport
	if file := getenv(v.Getenv, "VAULT_CACERT"); file != "" && transport == nil {
		roots, err := readRoots(file)
		if err != nil {
			return Assertion{}, err
		}
		transport = direct(roots)
	}
	u.RawQuery, u.Fragment = "", ""
	return request{
		who: "Vault", method: http.MethodGet, url: u.JoinPath("v1", "identity", "oidc", "token", v.Role), header: header, pointer: "/data/token", transport: transport,
		denied: "check that the Vault token is valid and belongs to an entity, and that its policy allows read on identity/oidc/token/" + v.Role,
	}.token(ctx)
}

// maxRootsBytes is more than all public roots take.
const maxRootsBytes = 4 << 20

// readRoots reads the certificates that a platform's server is trusted by.
func readRoots(path string) (*x509.CertPool, error) {
	const hint = "name the PEM file of the certificate authority"
	text, err := readFile(path, maxRootsBytes)
	if err != nil {
		return nil, &Error{Problem: Unavailable, Message: "the CA file " + quote(path) + " cannot be read: " + reason(err), Hint: hint, Err: err}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(text)) {
		return nil, &Error{Problem: Malformed, Message: "the CA file " + quote(path) + " has no certificate", Hint: hint}
	}
	return roots, nil
}

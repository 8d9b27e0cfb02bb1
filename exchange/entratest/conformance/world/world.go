// Package world starts the emulator for clients that were written elsewhere,
// and tells them what they need: where it is, whom it trusts, and which
// requests must fail how.
package world

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
)

// World is a running emulator and, in its JSON form, all that a client in any
// language has to know about it.
type World struct {
	Authority string `json:"authority"` // https origin, without a tenant
	Tenant    string `json:"tenant"`
	Client    string `json:"client"`   // trusts the workload token
	Frontend  string `json:"frontend"` // the user signed in there
	User      string `json:"user"`
	UserName  string `json:"userName"`
	Control   string `json:"control"` // http origin of the endpoints in control.go

	// Secret is what the client has instead of a workload token when it must.
	Secret string `json:"secret"`

	// Blueprint acts as Agent, which acts as AgentUser.
	Blueprint     string `json:"blueprint"`
	Agent         string `json:"agent"`
	AgentUser     string `json:"agentUser"`
	AgentUserName string `json:"agentUserName"`

	// Thumbprints of the certificate in hexadecimal.
	Thumbprint    string `json:"thumbprint"`
	Thumbprint256 string `json:"thumbprint256"`

	// Paths of files. Certificate holds one and its key.
	CA            string `json:"ca"`
	WorkloadToken string `json:"workloadToken"`
	UserToken     string `json:"userToken"`
	Certificate   string `json:"certificate"`

	// Graph has tokens of version 1, Ledger of version 2. Exchange is where
	// agents get the tokens they act with.
	Graph    Resource `json:"graph"`
	Ledger   Resource `json:"ledger"`
	Exchange Resource `json:"exchange"`

	cert    certificate
	host    *entratest.Host
	dir     string
	control *http.Server
	done    chan struct{}
}

// Resource is an API, and how it verifies its tokens.
type Resource struct {
	Default  string `json:"default"`  // the scope {resource}/.default
	Scope    string `json:"scope"`    // one delegated scope
	Role     string `json:"role"`     // the application's role
	Audience string `json:"audience"` // aud, iss and keys of its tokens
	Issuer   string `json:"issuer"`
	Keys     string `json:"keys"`
	// ClientClaim is where the token names its client.
	ClientClaim string `json:"clientClaim"`
}

// Start runs the emulator on loopback. The caller must Close it.
func Start() (*World, error) {
	cert, err := newCertificate()
	if err != nil {
		return nil, err
	}
	host, err := entratest.Listen(entratest.HostConfig{Directory: func(issuerURL string) entratest.Directory {
		return directory(issuerURL, cert.certificate)
	}})
	if err != nil {
		return nil, err
	}
	w := &World{
		Authority: host.URL,
		Tenant:    entratest.DemoTenantID,
		Client:    entratest.DemoClientID,
		Frontend:  entratest.DemoFrontendClientID,
		User:      entratest.DemoUserID,
		UserName:  entratest.DemoUserName,
		Secret:    secret,

		Thumbprint:    cert.sha1,
		Thumbprint256: cert.sha256,

		Blueprint:     entratest.DemoBlueprintClientID,
		Agent:         entratest.DemoAgentIdentityID,
		AgentUser:     entratest.DemoAgentUserID,
		AgentUserName: entratest.DemoAgentUserName,

		Graph: Resource{
			Default:     graph + "/.default",
			Scope:       graph + "/User.Read",
			Role:        "User.Read.All",
			Audience:    graph,
			Issuer:      "https://sts.windows.net/" + entratest.DemoTenantID + "/",
			Keys:        host.URL + "/" + entratest.DemoTenantID + "/discovery/keys",
			ClientClaim: "appid",
		},
		Ledger: Resource{
			Default:     ledger + "/.default",
			Scope:       ledger + "/run",
			Role:        "Run",
			Audience:    ledgerID,
			Issuer:      host.URL + "/" + entratest.DemoTenantID + "/v2.0",
			Keys:        host.URL + "/" + entratest.DemoTenantID + "/discovery/v2.0/keys",
			ClientClaim: "azp",
		},
		Exchange: Resource{
			Default:     entratest.TokenExchangeAudience + "/.default",
			Audience:    entratest.TokenExchangeResourceID,
			Issuer:      host.URL + "/" + entratest.DemoTenantID + "/v2.0",
			Keys:        host.URL + "/" + entratest.DemoTenantID + "/discovery/v2.0/keys",
			ClientClaim: "azp",
		},
		cert: cert,
		host: host,
		done: make(chan struct{}),
	}
	if err := errors.Join(w.writeFiles(), w.serveControl()); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Close stops the emulator and removes its files.
func (w *World) Close() error {
	errs := []error{w.host.Close(), os.RemoveAll(w.dir)}
	if w.control != nil {
		errs = append(errs, w.control.Close())
		<-w.done
	}
	return errors.Join(errs...)
}

// HTTP is a client that trusts the emulator.
func (w *World) HTTP() *http.Client { return w.host.Client() }

// Server is the emulated Entra ID.
func (w *World) Server() *entratest.Server { return w.host.Server }

// MintWorkloadToken signs a fresh token of the trusted service account.
func (w *World) MintWorkloadToken() (string, error) {
	return w.host.Issuer.ServiceAccountToken(trusted())
}

// MintUserToken signs a fresh token of the user for the application audience.
func (w *World) MintUserToken(audience string) (string, error) {
	return w.host.Server.UserToken(entratest.UserTokenRequest{
		Tenant: w.Tenant, User: w.User, Audience: audience, Client: w.Frontend,
	})
}

func (w *World) writeFiles() (err error) {
	if w.dir, err = os.MkdirTemp("", "entratest-"); err != nil {
		return err
	}
	workload, err := w.MintWorkloadToken()
	if err != nil {
		return err
	}
	user, err := w.MintUserToken(w.Client)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path    *string
		name    string
		content string
	}{
		{&w.CA, "ca.pem", string(w.host.CA)},
		{&w.WorkloadToken, "workload-token", workload},
		{&w.UserToken, "user-token", user},
		{&w.Certificate, "certificate.pem", w.cert.key + w.cert.certificate},
	} {
		*f.path = filepath.Join(w.dir, f.name)
		if err := os.WriteFile(*f.path, []byte(f.content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) serveControl() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("control endpoint: %w", err)
	}
	w.Control = "http://" + ln.Addr().String()
	w.control = &http.Server{Handler: w.controlHandler(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(w.done)
		_ = w.control.Serve(ln) // always ErrServerClosed: only Close ends it
	}()
	return nil
}

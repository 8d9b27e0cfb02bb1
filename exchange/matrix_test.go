package exchange_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	workloadpb "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/managedidentity"
	"github.com/credfree/credfree/exchange/workload"
	"github.com/credfree/credfree/exchange/workload/aws"
	"github.com/credfree/credfree/exchange/workload/spiffe"
)

const (
	audience   = entratest.TokenExchangeAudience
	platformID = "99999999-0000-4000-8000-000000000005"
	principal  = "99999999-0000-4000-8000-000000000004"
)

// setting is a platform with its workload, before there is an Entra.
type setting struct {
	issuer  *entratest.Issuer
	subject string
	text    string // a workload token
}

func newSetting(t *testing.T, platform entratest.Platform, w entratest.Workload) setting {
	t.Helper()
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{Platform: platform, Key: issuerKey(), Algorithms: []string{"RS256"}})
	must(t, err)
	subject, err := issuer.Subject(w)
	must(t, err)
	text, err := issuer.WorkloadToken(w)
	must(t, err)
	return setting{issuer, subject, text}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// endpoint serves a platform's endpoint on loopback and returns the environment
// that the platform gives its workloads.
func endpoint(t *testing.T, e *entratest.PlatformEndpoint, err error) func(string) string {
	t.Helper()
	must(t, err)
	loopback, err := entratest.ListenLoopback("", e)
	must(t, err)
	t.Cleanup(func() { must(t, loopback.Close()) })
	environment := e.Environment(loopback.URL)
	return func(name string) string { return environment[name] }
}

// sources are all sources, each as its platform has it.
var sources = map[string]func(t *testing.T) (setting, workload.Source){
	"file": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.AKS, entratest.Workload{})
		return s, workload.File{Path: write(t, "token", s.text)}
	},
	"env": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.GKE, entratest.Workload{})
		return s, workload.Env{Variable: "TOKEN", Getenv: func(string) string { return s.text }}
	},
	"exec": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.EKS, entratest.Workload{})
		return s, workload.Exec{Command: []string{"/bin/cat", write(t, "token", s.text)}}
	},
	"http": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.Kubernetes, entratest.Workload{})
		loopback, err := entratest.ListenLoopback("", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"data":{"token":%q}}`, s.text)
		}))
		must(t, err)
		t.Cleanup(func() { must(t, loopback.Close()) })
		return s, workload.HTTP{URL: loopback.URL, JSONPointer: "/data/token"}
	},
	"github": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.GitHubActions, entratest.Workload{})
		e, err := entratest.NewGitHubActions(entratest.WorkloadConfig{Issuer: s.issuer})
		return s, workload.GitHubActions{Audience: audience, Getenv: endpoint(t, e, err)}
	},
	"gitlab": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.GitLabCI, entratest.Workload{})
		return s, workload.GitLab{Variable: "ENTRA", Getenv: func(string) string { return s.text }}
	},
	"azureDevOps": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.AzureDevOps, entratest.Workload{Form: "connection"})
		e, err := entratest.NewAzureDevOps(entratest.WorkloadConfig{Issuer: s.issuer, Names: []string{platformID}})
		return s, workload.AzureDevOps{ServiceConnectionID: platformID, Getenv: endpoint(t, e, err)}
	},
	"terraform": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.Terraform, entratest.Workload{})
		return s, workload.Terraform{Getenv: func(string) string { return s.text }}
	},
	"circleci": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.CircleCI, entratest.Workload{Audience: audience})
		return s, workload.CircleCI{Getenv: func(string) string { return s.text }}
	},
	"buildkite": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.Buildkite, entratest.Workload{})
		agent := write(t, "buildkite-agent", "#!/bin/sh\necho "+s.text+"\n")
		environment := map[string]string{"PATH": "/usr/bin:/bin", "BUILDKITE_BIN_PATH": filepath.Dir(agent), "BUILDKITE_JOB_ID": "job", "BUILDKITE_AGENT_ACCESS_TOKEN": "x"}
		return s, workload.Buildkite{Audience: audience, Getenv: func(name string) string { return environment[name] }}
	},
	"vault": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.Vault, entratest.Workload{})
		e, err := entratest.NewVault(entratest.WorkloadConfig{Issuer: s.issuer, Roles: map[string]string{"entra": audience}})
		return s, workload.Vault{Role: "entra", Getenv: endpoint(t, e, err)}
	},
	"google": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.GoogleCloud, entratest.Workload{})
		e, err := entratest.NewGoogleMetadata(entratest.WorkloadConfig{Issuer: s.issuer})
		return s, workload.GoogleMetadata{Audience: audience, Getenv: endpoint(t, e, err)}
	},
	"kubernetes": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.Kubernetes, entratest.Workload{Parameters: map[string]string{"namespace": "agents", "serviceaccount": "researcher"}})
		e, err := entratest.NewTokenRequest(entratest.WorkloadConfig{Issuer: s.issuer, Names: []string{"agents/researcher"}, Secret: "pod"})
		must(t, err)
		server := httptest.NewUnstartedServer(e)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		host, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
		environment := map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
		ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
		folder := filepath.Dir(write(t, "ca.crt", ca))
		must(t, os.WriteFile(filepath.Join(folder, "token"), []byte("pod"), 0o600))
		must(t, os.WriteFile(filepath.Join(folder, "namespace"), []byte("agents"), 0o600))
		return s, workload.KubernetesTokenRequest{ServiceAccount: "researcher", Audience: audience, Folder: folder, Getenv: func(name string) string { return environment[name] }}
	},
	"aws": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.AWS, entratest.Workload{})
		e, err := entratest.NewSTS(entratest.WorkloadConfig{Issuer: s.issuer})
		environment := endpoint(t, e, err)
		for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": environment("AWS_REGION"),
			"AWS_ENDPOINT_URL_STS": environment("AWS_ENDPOINT_URL_STS"), "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_PROFILE": ""} {
			t.Setenv(name, value)
		}
		return s, aws.Source{Audience: audience}
	},
	"spiffe": func(t *testing.T) (setting, workload.Source) {
		s := newSetting(t, entratest.SPIFFE, entratest.Workload{})
		socket := filepath.Join(t.TempDir(), "agent.sock")
		listener, err := net.Listen("unix", socket)
		must(t, err)
		server := grpc.NewServer()
		workloadpb.RegisterSpiffeWorkloadAPIServer(server, workloadAPI{subject: s.subject, text: s.text})
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(listener) }) // ends with Stop
		source := &spiffe.Source{Audience: audience, Socket: "unix://" + socket}
		t.Cleanup(func() { must(t, source.Close()); server.Stop(); serving.Wait() })
		return s, source
	},
}

// workloadAPI is a SPIFFE Workload API with one JWT-SVID.
type workloadAPI struct {
	workloadpb.UnimplementedSpiffeWorkloadAPIServer
	subject, text string
}

func (w workloadAPI) FetchJWTSVID(context.Context, *workloadpb.JWTSVIDRequest) (*workloadpb.JWTSVIDResponse, error) {
	return &workloadpb.JWTSVIDResponse{Svids: []*workloadpb.JWTSVID{{SpiffeId: w.subject, Svid: w.text}}}, nil
}

// write makes a file, which may be a program.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, []byte(text), 0o700))
	return path
}

// TestEveryIdentityGrantAndSource is the table in README.md: each identity, with
// each grant that Entra has for it, by each source. Managed identities, which
// are a source and an identity, have tests of their own below.
func TestEveryIdentityGrantAndSource(t *testing.T) {
	for name, start := range sources {
		t.Run(name, func(t *testing.T) {
			s, source := start(t)
			server := trusting(t, entratest.FederatedCredential{Name: "platform", Issuer: s.issuer.URL(), Subject: s.subject, Audience: audience}, s.issuer.RoundTripper())
			everyGrant(t, server, source)
		})
	}
}

// A managed identity's own token is the workload token of an application, or of
// a blueprint, that trusts it.
func TestManagedIdentityAsSource(t *testing.T) {
	server := trusting(t, entratest.FederatedCredential{Name: "platform", Issuer: authority + "/" + entratest.DemoTenantID + "/v2.0", Subject: principal, Audience: audience}, nil)
	client := managed(t, entratest.NewAppService, server)
	everyGrant(t, server, managedidentity.Source{Client: client, ID: managedidentity.ID{ClientID: platformID}, Audience: audience})
}

// A managed identity gets tokens of its own from each kind of platform.
func TestManagedIdentityAsIdentity(t *testing.T) {
	for name, test := range map[string]struct {
		start func(entratest.ManagedIdentityConfig) (*entratest.PlatformEndpoint, error)
		id    managedidentity.ID
	}{
		"App Service by client id":   {entratest.NewAppService, managedidentity.ID{ClientID: platformID}},
		"App Service by object id":   {entratest.NewAppService, managedidentity.ID{ObjectID: principal}},
		"App Service, the machine's": {entratest.NewAppService, managedidentity.ID{}},
		"Azure ML by client id":      {entratest.NewAzureML, managedidentity.ID{ClientID: platformID}},
		"Cloud Shell":                {entratest.NewCloudShell, managedidentity.ID{}},
	} {
		t.Run(name, func(t *testing.T) {
			server := trusting(t, entratest.FederatedCredential{Name: "platform", Issuer: "https://nobody.test", Subject: "nobody", Audience: audience}, nil)
			client, err := exchange.New(exchange.Config{Authority: authority, Audience: audience, Transport: server.RoundTripper(), ManagedIdentity: managed(t, test.start, server)})
			must(t, err)
			id := exchange.ManagedIdentity{ID: test.id, Tenant: entratest.DemoTenantID}
			token, err := client.Token(t.Context(), id, exchange.Request{Scopes: []string{graph}})
			must(t, err)
			if claims := claimsOf(t, token); claims["aud"] != "https://graph.microsoft.com" || token.Kind != exchange.AppOnly || token.Lifetime <= 0 {
				t.Errorf("got a token of kind %s for %v", token.Kind, claims["aud"])
			}
			id.Tenant = platformID
			if _, err := client.Token(t.Context(), id, exchange.Request{Scopes: []string{graph}}); asError(t, err).Reason != exchange.TokenMismatch {
				t.Errorf("got %v for a token of another tenant, want %s", err, exchange.TokenMismatch)
			}
			if _, err := client.Token(t.Context(), id, exchange.Request{Scopes: []string{userRead}}); asError(t, err).Reason != exchange.BadRequest {
				t.Errorf("got %v for a delegated scope, want %s", err, exchange.BadRequest)
			}
		})
	}
}

// managed is a client of an emulated platform with two identities.
func managed(t *testing.T, start func(entratest.ManagedIdentityConfig) (*entratest.PlatformEndpoint, error), server *entratest.Server) *managedidentity.Client {
	t.Helper()
	e, err := start(entratest.ManagedIdentityConfig{Server: server, Identities: []entratest.ManagedIdentity{
		{ClientID: platformID, PrincipalID: principal},
		{ClientID: "99999999-0000-4000-8000-000000000001", PrincipalID: "99999999-0000-4000-8000-000000000002", SystemAssigned: true},
	}})
	environment := endpoint(t, e, err)
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET", "DEFAULT_IDENTITY_CLIENT_ID"} {
		t.Setenv(name, environment(name))
	}
	client, err := managedidentity.New(managedidentity.Config{Transport: &http.Transport{}})
	must(t, err)
	return client
}

// trusting is an Entra whose application and blueprint trust one workload.
func trusting(t *testing.T, credential entratest.FederatedCredential, issuers http.RoundTripper) *entratest.Server {
	t.Helper()
	directory := entratest.DemoDirectory("https://nobody.test")
	for i := range directory.Tenants[0].Applications {
		if app := &directory.Tenants[0].Applications[i]; len(app.FederatedCredentials) > 0 {
			app.FederatedCredentials = []entratest.FederatedCredential{credential}
		}
	}
	server, err := entratest.New(entratest.Config{BaseURL: authority, Directory: directory, HTTPClient: &http.Client{Transport: issuers}})
	must(t, err)
	return server
}

// everyGrant asks as each identity, for itself and for a user.
func everyGrant(t *testing.T, server *entratest.Server, source workload.Source) {
	t.Helper()
	e := &entra{server: server, app: exchange.Application{Tenant: entratest.DemoTenantID, ClientID: entratest.DemoClientID, Source: source}}
	client, err := exchange.New(exchange.Config{Authority: authority, Audience: audience, Transport: server.RoundTripper()})
	must(t, err)
	for name, test := range map[string]struct {
		identity exchange.Identity
		user     string // audience of the user's token
		scope    string
		object   string // whose delegated token
	}{
		"application":            {e.app, "", graph, ""},
		"application for a user": {e.app, entratest.DemoClientID, userRead, entratest.DemoUserID},
		"agent":                  {e.agent(), "", graph, ""},
		"agent for a user":       {e.agent(), entratest.DemoBlueprintClientID, userRead, entratest.DemoUserID},
		"agent user":             {e.agentUser(), "", userRead, entratest.DemoAgentUserID},
	} {
		t.Run(name, func(t *testing.T) {
			req := exchange.Request{Scopes: []string{test.scope}}
			if test.user != "" {
				req.User = e.userToken(t, test.user)
			}
			token, err := client.Token(t.Context(), test.identity, req)
			must(t, err)
			if token.UserObjectID != test.object || !slices.Contains([]exchange.Kind{exchange.AppOnly, exchange.Delegated}, token.Kind) || (token.Kind == exchange.Delegated) != (test.object != "") {
				t.Errorf("got a token of kind %s for %q, want one for %q", token.Kind, token.UserObjectID, test.object)
			}
		})
	}
}

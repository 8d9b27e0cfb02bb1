package workload_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/workload"
)

const connection = "99999999-0000-4000-8000-000000000005"

// signingKey spares each test the time to make one.
var signingKey = sync.OnceValue(func() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func platformConfig(t *testing.T, platform entratest.Platform) (entratest.WorkloadConfig, string) {
	t.Helper()
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{Platform: platform, Key: signingKey(), Algorithms: []string{"RS256"}})
	if err != nil {
		t.Fatal(err)
	}
	subject, err := issuer.Subject(entratest.Workload{})
	if err != nil {
		t.Fatal(err)
	}
	return entratest.WorkloadConfig{Issuer: issuer, Secret: bearer}, subject
}

// listen serves a platform's endpoint on loopback, as the platform does.
func listen(t *testing.T, handler http.Handler) string {
	t.Helper()
	loopback, err := entratest.ListenLoopback("", handler)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := loopback.Close(); err != nil {
			t.Error(err)
		}
	})
	return loopback.URL
}

// platform is a source against the emulated endpoint of its platform.
type platform struct {
	endpoint *entratest.PlatformEndpoint
	subject  string
	env      variables // which the source reads
	source   workload.Source
	// needs are the variables without which nothing is asked; address and
	// secret are those of them with the URL and with what the platform asks for.
	needs           []string
	address, secret string
	// inProcess is the source with the endpoint as its transport.
	inProcess func(http.RoundTripper) workload.Source
}

func gitHubActions(t *testing.T) platform {
	t.Helper()
	cfg, subject := platformConfig(t, entratest.GitHubActions)
	endpoint, err := entratest.NewGitHubActions(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := platform{endpoint: endpoint, subject: subject, env: endpoint.Environment(listen(t, endpoint)),
		address: "ACTIONS_ID_TOKEN_REQUEST_URL", secret: "ACTIONS_ID_TOKEN_REQUEST_TOKEN"}
	p.needs = []string{p.address, p.secret}
	p.inProcess = func(transport http.RoundTripper) workload.Source {
		return workload.GitHubActions{Audience: audience, Getenv: p.env.get, Transport: transport}
	}
	p.source = p.inProcess(nil)
	return p
}

func azureDevOps(t *testing.T) platform {
	t.Helper()
	cfg, _ := platformConfig(t, entratest.AzureDevOps)
	cfg.Names = []string{connection}
	subject, err := cfg.Issuer.Subject(entratest.Workload{Form: "connection"})
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := entratest.NewAzureDevOps(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := platform{endpoint: endpoint, subject: subject, env: endpoint.Environment(listen(t, endpoint)),
		address: "SYSTEM_OIDCREQUESTURI", secret: "SYSTEM_ACCESSTOKEN"}
	p.needs = []string{p.address, p.secret}
	p.inProcess = func(transport http.RoundTripper) workload.Source {
		return workload.AzureDevOps{ServiceConnectionID: connection, Getenv: p.env.get, Transport: transport}
	}
	p.source = p.inProcess(nil)
	return p
}

func googleMetadata(t *testing.T) platform {
	t.Helper()
	cfg, subject := platformConfig(t, entratest.GoogleCloud)
	endpoint, err := entratest.NewGoogleMetadata(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := platform{endpoint: endpoint, subject: subject, env: endpoint.Environment(listen(t, endpoint))}
	p.inProcess = func(transport http.RoundTripper) workload.Source {
		return workload.GoogleMetadata{Audience: audience, Getenv: p.env.get, Transport: transport}
	}
	p.source = p.inProcess(nil)
	return p
}

func vault(t *testing.T) platform {
	t.Helper()
	cfg, subject := platformConfig(t, entratest.Vault)
	cfg.Roles = map[string]string{"entra": audience}
	endpoint, err := entratest.NewVault(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := platform{endpoint: endpoint, subject: subject, env: endpoint.Environment(listen(t, endpoint)), address: "VAULT_ADDR", secret: "VAULT_TOKEN"}
	p.needs = []string{p.address, p.secret}
	p.inProcess = func(transport http.RoundTripper) workload.Source {
		return workload.Vault{Role: "entra", Getenv: p.env.get, Transport: transport}
	}
	p.source = p.inProcess(nil)
	return p
}

// tlsServer serves over TLS and returns the server's certificate in PEM.
func tlsServer(t *testing.T, handler http.Handler) (address, ca string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

// folder has the files of a pod, or whatever a test needs.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pod is a KubernetesTokenRequest as it is used, with its folder.
func pod(t *testing.T) (platform, workload.KubernetesTokenRequest) {
	t.Helper()
	cfg, _ := platformConfig(t, entratest.Kubernetes)
	cfg.Names = []string{"agents/researcher"}
	endpoint, err := entratest.NewTokenRequest(cfg)
	if err != nil {
		t.Fatal(err)
	}
	address, ca := tlsServer(t, endpoint)
	host, port, _ := strings.Cut(strings.TrimPrefix(address, "https://"), ":")
	p := platform{endpoint: endpoint, subject: "system:serviceaccount:agents:researcher",
		env: variables{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}, needs: []string{"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"}}
	source := workload.KubernetesTokenRequest{ServiceAccount: "researcher", Audience: audience, Getenv: p.env.get,
		Folder: folder(t, map[string]string{"token": bearer + "\n", "ca.crt": ca, "namespace": "agents"})}
	p.source = source
	p.inProcess = func(transport http.RoundTripper) workload.Source {
		source.Transport = transport
		return source
	}
	return p, source
}

func kubernetes(t *testing.T) platform {
	t.Helper()
	p, _ := pod(t)
	return p
}

var platforms = map[string]func(*testing.T) platform{
	"GitHub Actions": gitHubActions,
	"Azure DevOps":   azureDevOps,
	"Google":         googleMetadata,
	"Vault":          vault,
	"Kubernetes":     kubernetes,
}

// Each source gets a token that Entra could accept from its platform.
func TestPlatforms(t *testing.T) {
	for name, start := range platforms {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			a, err := p.source.Assertion(t.Context())
			if err != nil {
				t.Fatalf("got %v; the platform was asked %+v", err, p.endpoint.Requests())
			}
			exp := a.ExpiresAt
			if err := a.Check(audience, exp.Add(-1)); err != nil || a.Subject != p.subject {
				t.Errorf("got subject %q, %v, want %q", a.Subject, err, p.subject)
			}
			again, err := p.source.Assertion(t.Context())
			if err != nil || len(p.endpoint.Requests()) != 2 {
				t.Errorf("got %v and %d requests, want one for each exchange", err, len(p.endpoint.Requests()))
			}
			if again.Len() == 0 {
				t.Error("got an empty token")
			}
		})
	}
}

// Whatever the platform does, the source says so in time and in its own words.
func TestPlatformsThatMisbehave(t *testing.T) {
	for name, start := range platforms {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			for does, behavior := range map[string]entratest.PlatformBehavior{
				"an error":    {Status: http.StatusInternalServerError, Body: `{"error":"` + bearer + `"}`},
				"throttling":  {Status: http.StatusTooManyRequests, RetryAfter: "30"},
				"a page":      {Body: "<html>" + bearer},
				"JSON":        {Body: `{"message":"` + bearer + `"}`},
				"too much":    {Body: strings.Repeat(bearer, 1<<13)},
				"half a JSON": {Truncate: true, Body: `{"value":"` + bearer + `"}`},
				"half":        {Truncate: true},
			} {
				p.endpoint.SetBehavior(behavior)
				_, err := p.source.Assertion(t.Context())
				problem := workload.Malformed
				if behavior.Status != 0 {
					problem = workload.Unavailable
				}
				t.Run(does, func(t *testing.T) { wantError(t, err, problem, "", bearer) })
			}
		})
	}
}

func TestPlatformsThatHang(t *testing.T) {
	for name, start := range platforms {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			p.endpoint.SetBehavior(entratest.PlatformBehavior{Hang: true})
			synctest.Test(t, func(t *testing.T) {
				source := p.inProcess(transport(func(r *http.Request) (*http.Response, error) {
					return p.endpoint.RoundTripper(r.URL.Scheme + "://" + r.URL.Host).RoundTrip(r)
				}))
				_, err := source.Assertion(t.Context())
				wantError(t, err, workload.Unavailable, "did not answer within", bearer)
			})
		})
	}
}

// What the platform asks for is missing, wrong, or would go to a stranger.
func TestPlatformAccess(t *testing.T) {
	for name, start := range platforms {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			good := maps.Clone(p.env)
			for _, variable := range p.needs {
				p.env[variable] = ""
				_, err := p.source.Assertion(t.Context())
				wantError(t, err, workload.Unavailable, `"`+variable+`"`, bearer)
				p.env[variable] = good[variable]
			}
			if p.secret != "" {
				p.env[p.secret] = bearer + "\r\nX-Injected: 1"
				_, err := p.source.Assertion(t.Context())
				wantError(t, err, workload.Malformed, p.secret, bearer)
				p.env[p.secret] = bearer
			}
			if p.address != "" {
				p.env[p.address] = strings.Replace(good[p.address], "127.0.0.1", "platform.test", 1)
				_, err := p.source.Assertion(t.Context())
				wantError(t, err, workload.Malformed, "others on the network", bearer)
				p.env[p.address] = "https://%zz" + bearer
				_, err = p.source.Assertion(t.Context())
				wantError(t, err, workload.Malformed, "URL", bearer)
				p.env[p.address] = good[p.address]
			}
			if len(p.endpoint.Requests()) != 0 {
				t.Errorf("got %+v, want no request so far", p.endpoint.Requests())
			}
			if p.secret != "" {
				p.env[p.secret] = "wrong-" + bearer
				_, err := p.source.Assertion(t.Context())
				wantError(t, err, workload.Unavailable, "40", bearer)
			}
		})
	}
}

// A platform that redirects gets nobody to show what it was given elsewhere.
func TestPlatformsThatRedirect(t *testing.T) {
	for name, start := range platforms {
		t.Run(name, func(t *testing.T) {
			p, asked := start(t), 0
			source := p.inProcess(transport(func(r *http.Request) (*http.Response, error) {
				asked++
				return &http.Response{StatusCode: http.StatusTemporaryRedirect, Body: http.NoBody, Request: r,
					Header: http.Header{"Location": {"https://platform.test/" + bearer}}}, nil
			}))
			_, err := source.Assertion(t.Context())
			wantError(t, err, workload.Malformed, "307", bearer)
			if asked != 1 {
				t.Errorf("got %d requests, want 1", asked)
			}
		})
	}
}

func TestGitHubActionsAsksForTheAudience(t *testing.T) {
	p := gitHubActions(t)
	if _, err := p.source.Assertion(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.endpoint.Requests()[0].Audience; got != audience {
		t.Errorf("got the audience %q, want %q", got, audience)
	}
	_, err := workload.GitHubActions{Getenv: p.env.get}.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "audience", bearer)
}

func TestAzureDevOpsServiceConnection(t *testing.T) {
	p := azureDevOps(t)
	_, err := workload.AzureDevOps{Getenv: p.env.get}.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "service connection", bearer)
	_, err = workload.AzureDevOps{ServiceConnectionID: strings.Replace(connection, "5", "6", 1), Getenv: p.env.get}.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "404", bearer)
	_, err = workload.AzureDevOps{ServiceConnectionID: "x&api-version=1", Getenv: p.env.get}.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "404", bearer)
}

func TestPlatformVariables(t *testing.T) {
	env := variables{}
	for want, source := range map[string]workload.Source{
		"ENTRA":                             workload.GitLab{Variable: "ENTRA", Getenv: env.get},
		"TFC_WORKLOAD_IDENTITY_TOKEN":       workload.Terraform{Getenv: env.get},
		"TFC_WORKLOAD_IDENTITY_TOKEN_ENTRA": workload.Terraform{Tag: "ENTRA", Getenv: env.get},
		"CIRCLE_OIDC_TOKEN":                 workload.CircleCI{Getenv: env.get},
	} {
		_, err := source.Assertion(t.Context())
		wantError(t, err, workload.Unavailable, `"`+want+`" is not set`)
		env[want] = subject("of " + want)
		wantSubject(t, source, "of "+want)
	}
}

// Without GCE_METADATA_HOST the well-known name is asked; another machine never.
func TestGoogleMetadataHosts(t *testing.T) {
	p := googleMetadata(t)
	for host, want := range map[string]string{"": "http://metadata.google.internal", "169.254.169.254": "http://169.254.169.254"} {
		p.env["GCE_METADATA_HOST"] = host
		wantSubject(t, p.inProcess(p.endpoint.RoundTripper(want)), p.subject)
	}
	for _, host := range []string{"platform.test", "127.0.0.1.platform.test", "127.0.0.1@platform.test", "metadata.google.internal.platform.test", "10.0.0.1:80"} {
		p.env["GCE_METADATA_HOST"] = host
		_, err := p.source.Assertion(t.Context())
		wantError(t, err, workload.Malformed, "the Google metadata server")
	}
	_, err := workload.GoogleMetadata{Getenv: p.env.get}.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "audience")
}

func TestVaultTokenFile(t *testing.T) {
	p := vault(t)
	delete(p.env, "VAULT_TOKEN")
	file := filepath.Join(folder(t, map[string]string{"token": "old"}), "token")
	source := workload.Vault{Role: "entra", TokenFile: file, Getenv: p.env.get}
	_, err := source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "403")
	if err := os.WriteFile(file, []byte(bearer+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantSubject(t, source, p.subject)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	_, err = source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "no such file", bearer)
}

func TestVaultOverTLS(t *testing.T) {
	p := vault(t)
	var namespace string
	address, ca := tlsServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		namespace = r.Header.Get("X-Vault-Namespace")
		p.endpoint.ServeHTTP(w, r)
	}))
	dir := folder(t, map[string]string{"ca.pem": ca, "none.pem": bearer})
	p.env["VAULT_ADDR"], p.env["VAULT_SKIP_VERIFY"] = address+"/", "true"
	_, err := p.source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "not trusted", bearer)
	p.env["VAULT_CACERT"], p.env["VAULT_NAMESPACE"] = filepath.Join(dir, "ca.pem"), "team/a"
	wantSubject(t, p.source, p.subject)
	if namespace != "team/a" {
		t.Errorf("got the namespace %q, want team/a", namespace)
	}
	p.env["VAULT_CACERT"] = filepath.Join(dir, "none.pem")
	_, err = p.source.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "no certificate", bearer)
	p.env["VAULT_CACERT"] = filepath.Join(dir, "missing.pem")
	_, err = p.source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "no such file", bearer)
}

func TestVaultRoles(t *testing.T) {
	p := vault(t)
	_, err := workload.Vault{Role: "other", Getenv: p.env.get}.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "400", bearer)
	for _, role := range []string{"", "..", "../../../sys/seal", "a/b", "a?b", "a%2fb", "entra\n"} {
		_, err := workload.Vault{Role: role, Getenv: p.env.get}.Assertion(t.Context())
		wantError(t, err, workload.Malformed, "is not a name", bearer)
	}
}

func TestKubernetesFiles(t *testing.T) {
	p, source := pod(t)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(source.Folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("token", "rotated-away")
	_, err := source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "401", bearer)
	write("token", bearer)
	wantSubject(t, source, p.subject)
	if got, want := p.endpoint.Requests()[1].Audience, audience; got != want {
		t.Errorf("got the audience %q, want %q", got, want)
	}
	_, ca := tlsServer(t, http.NotFoundHandler()) // httptest has one certificate for all
	write("ca.crt", strings.Replace(ca, "MII", "NII", 1))
	_, err = source.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "no certificate", bearer)
	if err := os.Remove(filepath.Join(source.Folder, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	_, err = source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "no such file", bearer)
}

func TestKubernetesNames(t *testing.T) {
	p, source := pod(t)
	other := source
	other.Namespace = "billing"
	_, err := other.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, "404", bearer)
	for _, name := range []string{"", "..", "a..b", "a/b", "A", "a?b", "a%2fb"} {
		other := source
		other.ServiceAccount = name
		_, err := other.Assertion(t.Context())
		wantError(t, err, workload.Malformed, "is not the name", bearer)
	}
	other = source
	other.Audience = ""
	_, err = other.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "audience", bearer)
	p.env["KUBERNETES_SERVICE_PORT"] = bearer
	_, err = source.Assertion(t.Context())
	wantError(t, err, workload.Malformed, "URL", bearer)
}

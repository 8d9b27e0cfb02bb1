package managedidentity_test

import (
	"crypto/sha1"
	"encoding/hex"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	msal "github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"
	"github.com/google/uuid"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/managedidentity"
)

// Every platform hands out a token, and is asked again for the next one.
func TestEveryTokenIsAskedFor(t *testing.T) {
	for source, test := range map[string]struct {
		make   func(entratest.ManagedIdentityConfig) (*entratest.PlatformEndpoint, error)
		origin string
		legacy bool
	}{
		"imds":        {entratest.NewIMDS, imdsHost, false},
		"app_service": {entratest.NewAppService, origin, false},
		"azure_ml":    {entratest.NewAzureML, origin, true},
		"cloud_shell": {entratest.NewCloudShell, origin, false},
	} {
		t.Run(source, func(t *testing.T) {
			cfg := config(t)
			cfg.LegacyDates = test.legacy
			endpoint := platformOf(t, test.make, cfg, test.origin)
			client := newClient(t, endpoint.RoundTripper(test.origin))
			for range 2 {
				token, err := client.Token(t.Context(), managedidentity.ID{}, vault)
				if err != nil {
					t.Fatal(err)
				}
				if got := objectOf(t, token.Reveal()); got != systemObject {
					t.Errorf("got a token of %s, want %s", got, systemObject)
				}
				if token.Source != source || token.Lifetime > 24*time.Hour+time.Second || token.Lifetime < 24*time.Hour-time.Minute || token.RefreshIn != token.Lifetime/2 {
					t.Errorf("got source %s, lifetime %s and refresh in %s, want %s, 24h and half of it", token.Source, token.Lifetime, token.RefreshIn, source)
				}
			}
			if got := len(endpoint.Requests()); got != 2 {
				t.Errorf("got %d requests for two tokens, want 2", got)
			}
		})
	}
}

// Whatever the name, and however many ask at once: each gets its own identity's.
func TestIdentitiesAreKeptApart(t *testing.T) {
	client, endpoint := imds(t)
	other := newClient(t, endpoint.RoundTripper(imdsHost))
	want := map[managedidentity.ID]string{
		{}:                             systemObject,
		{ClientID: systemClient}:       systemObject,
		{ClientID: assignedClient}:     assignedObject,
		{ObjectID: assignedObject}:     assignedObject,
		{ResourceID: assignedResource}: assignedObject,
	}
	const rounds = 8
	var all sync.WaitGroup
	for id, object := range want {
		for n := range rounds {
			all.Go(func() {
				asked := client
				if n%2 == 1 {
					asked = other
				}
				token, err := asked.Token(t.Context(), id, vault)
				if err != nil {
					t.Errorf("%+v: %v", id, err)
					return
				}
				if got := objectOf(t, token.Reveal()); got != object {
					t.Errorf("%+v got a token of %s, want %s", id, got, object)
				}
			})
		}
	}
	all.Wait()
	if got := len(endpoint.Requests()); got != rounds*len(want) {
		t.Errorf("got %d requests, want %d", got, rounds*len(want))
	}
}

// MSAL has one cache for the whole process. What is in it is not used, and nothing
// of ours gets into it.
func TestTheCacheOfTheProcessStaysOutOfIt(t *testing.T) {
	const resource = "https://cognitiveservices.azure.com"
	cfg, id := config(t), uuid.NewString() // of no earlier run of this test
	cfg.Identities[0].ClientID = id
	endpoint := platformOf(t, entratest.NewIMDS, cfg, imdsHost)
	client := newClient(t, endpoint.RoundTripper(imdsHost))
	direct, err := msal.New(msal.UserAssignedClientID(id), msal.WithHTTPClient(&http.Client{Transport: endpoint.RoundTripper(imdsHost)}))
	if err != nil {
		t.Fatal(err)
	}
	ask := map[string]func() error{
		"ours": func() error {
			_, err := client.Token(t.Context(), managedidentity.ID{ClientID: id}, resource)
			return err
		},
		"MSAL": func() error {
			_, err := direct.AcquireToken(t.Context(), resource)
			return err
		},
	}
	for i, step := range []struct {
		who  string
		want int // requests so far
	}{{"ours", 1}, {"MSAL", 2}, {"MSAL", 2}, {"ours", 3}, {"ours", 4}, {"MSAL", 4}} {
		if err := ask[step.who](); err != nil {
			t.Fatal(err)
		}
		if got := len(endpoint.Requests()); got != step.want {
			t.Errorf("step %d, %s: got %d requests, want %d", i, step.who, got, step.want)
		}
	}
}

func TestIdentitiesThatCannotBeNamed(t *testing.T) {
	platforms := map[string]func(entratest.ManagedIdentityConfig) (*entratest.PlatformEndpoint, error){
		"azure ml": entratest.NewAzureML, "cloud shell": entratest.NewCloudShell, "app service": entratest.NewAppService,
	}
	for _, test := range []struct {
		platform string
		id       managedidentity.ID
		says     string // "" for a token
	}{
		{"azure ml", managedidentity.ID{ClientID: assignedClient}, ""},
		{"azure ml", managedidentity.ID{ObjectID: assignedObject}, "by this name"},
		{"azure ml", managedidentity.ID{ResourceID: assignedResource}, "by this name"},
		{"cloud shell", managedidentity.ID{ClientID: assignedClient}, "by this name"},
		{"app service", managedidentity.ID{ResourceID: assignedResource}, ""},
		{"app service", managedidentity.ID{ClientID: assignedClient, ObjectID: assignedObject}, "more than one way"},
		{"app service", managedidentity.ID{ClientID: assignedClient, ObjectID: assignedObject, ResourceID: assignedResource}, "more than one way"},
	} {
		endpoint := platformOf(t, platforms[test.platform], config(t), origin)
		token, err := newClient(t, endpoint.RoundTripper(origin)).Token(t.Context(), test.id, vault)
		if test.says == "" {
			if err != nil || objectOf(t, token.Reveal()) != assignedObject {
				t.Errorf("%s: %+v: got %v, want a token of the identity", test.platform, test.id, err)
			}
			continue
		}
		wantError(t, err, managedidentity.Unsupported, test.says)
		if got := len(endpoint.Requests()); got != 0 {
			t.Errorf("%s: %+v: got %d requests, want none", test.platform, test.id, got)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := managedidentity.New(managedidentity.Config{}); err == nil {
		t.Error("got a client without a transport")
	}
	client, endpoint := appService(t)
	for _, resource := range []string{"", "https://a b", "https://a\n", "https://ä"} {
		_, err := client.Token(t.Context(), managedidentity.ID{}, resource)
		wantError(t, err, managedidentity.Malformed, "the resource")
	}
	t.Setenv("IDENTITY_ENDPOINT", "http://%zz"+identityHeader)
	_, err := client.Token(t.Context(), managedidentity.ID{}, vault)
	wantError(t, err, managedidentity.Malformed, "not a URL")
	if got := len(endpoint.Requests()); got != 0 {
		t.Errorf("got %d requests, want none", got)
	}
}

// The requests are for this machine: a proxy would see the identity header.
func TestNoProxyIsUsed(t *testing.T) {
	endpoint := platformOf(t, entratest.NewAppService, config(t), origin)
	loopback, err := entratest.ListenLoopback("", endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := loopback.Close(); err != nil {
			t.Error(err)
		}
	}()
	environment(t, endpoint.Environment(loopback.URL))
	transport := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
		t.Error("a proxy was asked for")
		return nil, http.ErrNotSupported
	}}
	if _, err := newClient(t, transport).Token(t.Context(), managedidentity.ID{}, vault); err != nil {
		t.Error(err)
	}
	if transport.Proxy == nil {
		t.Error("the caller's transport was changed")
	}
}

// Service Fabric serves a certificate of its own, which the environment names.
func TestServiceFabric(t *testing.T) {
	endpoint := platformOf(t, entratest.NewServiceFabric, config(t), origin)
	redirect := false
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if redirect {
			w.Header().Set("Location", "/elsewhere?"+identityHeader)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		endpoint.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	sum := sha1.Sum(server.Certificate().Raw)
	thumbprint := hex.EncodeToString(sum[:])
	set := endpoint.Environment(server.URL)
	set["IDENTITY_SERVER_THUMBPRINT"] = thumbprint
	environment(t, set)

	transports := map[string]http.RoundTripper{
		"standard": &http.Transport{},
		"wrapped":  roundTrip(func(*http.Request) (*http.Response, error) { return nil, http.ErrNotSupported }),
	}
	for name, transport := range transports {
		client := newClient(t, transport)
		for range 2 {
			token, err := client.Token(t.Context(), managedidentity.ID{}, vault)
			if err != nil || token.Source != "service_fabric" {
				t.Fatalf("%s: got %v from %q, want a token from service_fabric", name, err, token.Source)
			}
		}
	}
	if got := len(endpoint.Requests()); got != 4 {
		t.Errorf("got %d requests for four tokens, want 4", got)
	}

	client := newClient(t, transports["standard"])
	redirect = true
	_, err := client.Token(t.Context(), managedidentity.ID{}, vault)
	wantError(t, err, managedidentity.Malformed, "redirects are not followed")
	redirect = false
	_, err = client.Token(t.Context(), managedidentity.ID{ClientID: assignedClient}, vault)
	wantError(t, err, managedidentity.Unsupported, "by this name")
	t.Setenv("IDENTITY_SERVER_THUMBPRINT", strings.Repeat("0", len(thumbprint)))
	_, err = client.Token(t.Context(), managedidentity.ID{}, vault)
	if got := wantError(t, err, managedidentity.Unavailable, "whole HTTP answer"); !strings.Contains(got.Hint, "IDENTITY_SERVER_THUMBPRINT") {
		t.Errorf("got the hint %q, want the thumbprint in it", got.Hint)
	}
	t.Setenv("IDENTITY_SERVER_THUMBPRINT", "no thumbprint")
	_, err = client.Token(t.Context(), managedidentity.ID{}, vault)
	wantError(t, err, managedidentity.Malformed, "well enough")
	t.Setenv("IDENTITY_SERVER_THUMBPRINT", thumbprint)
	t.Setenv("IDENTITY_ENDPOINT", strings.Replace(set["IDENTITY_ENDPOINT"], "https:", "http:", 1))
	_, err = client.Token(t.Context(), managedidentity.ID{}, vault)
	wantError(t, err, managedidentity.Malformed, "well enough")
	if got := len(endpoint.Requests()); got != 4 {
		t.Errorf("got %d requests, want none since", got)
	}
}

// Azure Arc names a key file to be read as proof. MSAL reads no other than those in
// the agent's own folder, which tests have not got.
func TestArcsKeyFile(t *testing.T) {
	cfg := config(t)
	cfg.KeyDir = t.TempDir()
	endpoint := platformOf(t, entratest.NewArc, cfg, origin)
	client := newClient(t, endpoint.RoundTripper(origin))
	_, err := client.Token(t.Context(), managedidentity.ID{}, vault)
	if got := wantError(t, err, managedidentity.Refused, "key file"); !strings.Contains(got.Hint, "himds") {
		t.Errorf("got the hint %q, want the group in it", got.Hint)
	}
	_, err = client.Token(t.Context(), managedidentity.ID{ClientID: strangerClient}, vault)
	wantError(t, err, managedidentity.NoIdentity, "does not have this identity")
	if got := len(endpoint.Requests()); got != 2 {
		t.Errorf("got %d requests, want 2", got)
	}
	// Whoever asks for no proof is not the agent.
	endpoint.SetBehavior(entratest.PlatformBehavior{Body: `{"access_token":"a.b.c","expires_in":3600}`})
	_, err = client.Token(t.Context(), managedidentity.ID{}, vault)
	wantError(t, err, managedidentity.Malformed, "did not ask who we are")
}

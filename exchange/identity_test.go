package exchange_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/secret"
)

const userRead = "https://graph.microsoft.com/User.Read"

func (e *entra) agent() exchange.Agent {
	blueprint := e.app
	blueprint.ClientID = entratest.DemoBlueprintClientID
	return exchange.Agent{Blueprint: blueprint, ID: entratest.DemoAgentIdentityID}
}

func (e *entra) agentUser() exchange.AgentUser {
	return exchange.AgentUser{Agent: e.agent(), Username: entratest.DemoAgentUserName}
}

// userToken is Ada's, for the application or the blueprint of that id.
func (e *entra) userToken(t testing.TB, audience string) exchange.User {
	t.Helper()
	text, err := e.server.UserToken(entratest.UserTokenRequest{User: entratest.DemoUserName, Audience: audience, Client: entratest.DemoFrontendClientID})
	if err != nil {
		t.Fatal(err)
	}
	return exchange.User{Token: secret.New(text), ObjectID: entratest.DemoUserID}
}

// claimsOf reads an issued token.
func claimsOf(t testing.TB, token exchange.Token) map[string]any {
	t.Helper()
	var claims map[string]any
	if err := json.Unmarshal(decode(t, strings.Split(token.Reveal(), ".")[1]), &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// grants are the grants that were sent, in order.
func (e *entra) grants() []string {
	var grants []string
	for _, form := range e.sent.forms {
		grant := form.Get("grant_type")
		if path := form.Get("fmi_path"); path != "" {
			grant += " for " + path
		}
		grants = append(grants, grant)
	}
	return grants
}

// keeper keeps the tokens of legs for ever.
type keeper struct {
	mu   sync.Mutex // guards kept
	kept map[exchange.Leg]exchange.Token
}

func (k *keeper) Keep(ctx context.Context, leg exchange.Leg, fetch func(context.Context) (exchange.Token, error)) (exchange.Token, error) {
	k.mu.Lock()
	token, ok := k.kept[leg]
	k.mu.Unlock()
	if ok {
		return token, nil
	}
	token, err := fetch(ctx)
	if err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.kept[leg] = token
	}
	return token, err
}

func (k *keeper) Drop(leg exchange.Leg) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.kept, leg)
}

func withKeeper(cfg *exchange.Config) { cfg.Legs = &keeper{kept: map[exchange.Leg]exchange.Token{}} }

// Each identity and each grant: the requests that it takes, and whose token
// comes back.
func TestIdentities(t *testing.T) {
	const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	const forAgent = "client_credentials for " + entratest.DemoAgentIdentityID
	for name, test := range map[string]struct {
		identity func(e *entra) exchange.Identity
		user     string // audience of the user's token; "" for none
		scope    string
		grants   []string
		kind     exchange.Kind
		client   string
		object   string
	}{
		"application": {func(e *entra) exchange.Identity { return e.app }, "", graph,
			[]string{"client_credentials"}, exchange.AppOnly, entratest.DemoClientID, ""},
		"application for a user": {func(e *entra) exchange.Identity { return e.app }, entratest.DemoClientID, userRead,
			[]string{jwtBearer}, exchange.Delegated, entratest.DemoClientID, entratest.DemoUserID},
		"agent": {func(e *entra) exchange.Identity { return e.agent() }, "", graph,
			[]string{forAgent, "client_credentials"}, exchange.AppOnly, entratest.DemoAgentIdentityID, ""},
		"agent for a user": {func(e *entra) exchange.Identity { return e.agent() }, entratest.DemoBlueprintClientID, userRead,
			[]string{forAgent, jwtBearer}, exchange.Delegated, entratest.DemoAgentIdentityID, entratest.DemoUserID},
		"agent user by name": {func(e *entra) exchange.Identity { return e.agentUser() }, "", userRead,
			[]string{forAgent, "client_credentials", "user_fic"}, exchange.Delegated, entratest.DemoAgentIdentityID, entratest.DemoAgentUserID},
		"agent user by id": {func(e *entra) exchange.Identity {
			return exchange.AgentUser{Agent: e.agent(), ObjectID: entratest.DemoAgentUserID}
		}, "", graph, []string{forAgent, "client_credentials", "user_fic"}, exchange.Delegated, entratest.DemoAgentIdentityID, entratest.DemoAgentUserID},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEntra(t, withKeeper)
			req := exchange.Request{Scopes: []string{test.scope}}
			if test.user != "" {
				req.User = e.userToken(t, test.user)
			}
			token, err := e.client.Token(t.Context(), test.identity(e), req)
			if err != nil {
				t.Fatal(err)
			}
			if got := e.grants(); !slices.Equal(got, test.grants) {
				t.Errorf("got requests %q, want %q", got, test.grants)
			}
			claims := claimsOf(t, token)
			if claims["appid"] != test.client || claims["aud"] != "https://graph.microsoft.com" || token.Kind != test.kind {
				t.Errorf("got appid %v, aud %v, kind %s, want %s's for Graph, kind %s", claims["appid"], claims["aud"], token.Kind, test.client, test.kind)
			}
			if token.UserObjectID != test.object || test.object != "" && (claims["oid"] != test.object || token.UserTenant != entratest.DemoTenantID) {
				t.Errorf("got a token for user %s (oid %v) of %s, want %s", token.UserObjectID, claims["oid"], token.UserTenant, test.object)
			}
			if token.Session.Len() != 0 {
				t.Error("a session came unasked")
			}
			// The legs are kept, so that the next token takes one request.
			before := e.count()
			if _, err := e.client.Token(t.Context(), test.identity(e), req); err != nil || e.count() != before+1 {
				t.Errorf("got error %v after %d further requests, want a token after 1", err, e.count()-before)
			}
		})
	}
}

// An agent identity in another tenant than its blueprint's home: each leg is
// asked for in the tenant of the agent.
func TestAgentOfAnotherTenant(t *testing.T) {
	const tenant, agent = "6a0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d11", "a9e41d00-0000-4000-8000-00000000b0b0"
	directory := entratest.DemoDirectory(issuerURL)
	home := &directory.Tenants[0]
	for i := range home.Applications {
		home.Applications[i].MultiTenant = home.Applications[i].Blueprint
	}
	directory.Tenants = append(directory.Tenants, entratest.Tenant{
		ID: tenant, Resources: home.Resources,
		BlueprintPrincipals: []entratest.BlueprintPrincipal{{Blueprint: entratest.DemoBlueprintClientID}},
		AgentIdentities:     []entratest.AgentIdentity{{ObjectID: agent, Name: "abroad", Blueprint: entratest.DemoBlueprintClientID}},
	})
	e := newEntra(t)
	server, err := entratest.New(entratest.Config{BaseURL: authority, Directory: directory, HTTPClient: &http.Client{Transport: e.issuer.RoundTripper()}})
	if err != nil {
		t.Fatal(err)
	}
	e.sent.next = server.RoundTripper()
	identity := e.agent()
	identity.ID, identity.Blueprint.Tenant = agent, tenant
	token, err := e.client.Token(t.Context(), identity, exchange.Request{Scopes: []string{graph}})
	if err != nil {
		t.Fatal(err)
	}
	if claims := claimsOf(t, token); claims["tid"] != tenant || claims["appid"] != agent {
		t.Errorf("got a token of %v in tenant %v, want %s in %s", claims["appid"], claims["tid"], agent, tenant)
	}
	for _, req := range e.sent.requests {
		if !strings.HasPrefix(req.URL.Path, "/"+tenant+"/") {
			t.Errorf("a request went to %s, want the tenant %s", req.URL.Path, tenant)
		}
	}
}

// The spans of the legs say which is which.
func TestLegsAreTraced(t *testing.T) {
	e := newEntra(t, withKeeper)
	if _, err := e.client.Token(t.Context(), e.agentUser(), exchange.Request{Scopes: []string{userRead}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, span := range e.spans.Ended() {
		set := attribute.NewSet(span.Attributes()...)
		leg, _ := set.Value("credfree.entra.leg")
		grant, _ := set.Value("credfree.grant")
		got = append(got, strings.TrimSpace(span.Name()+" "+leg.AsString()+" "+grant.AsString()))
	}
	want := []string{"workload.token", "entra.token blueprint client_credentials", "entra.token agent client_credentials", "entra.token resource user_fic"}
	if !slices.Equal(got, want) {
		t.Errorf("got spans %q, want %q", got, want)
	}
}

// What Entra would never allow is refused here, before anything is sent.
func TestIdentitiesThatCannot(t *testing.T) {
	for name, test := range map[string]struct {
		change func(e *entra) (exchange.Identity, exchange.Request)
		text   string
	}{
		"an agent user for a user": {func(e *entra) (exchange.Identity, exchange.Request) {
			return e.agentUser(), exchange.Request{Scopes: []string{userRead}, User: e.userToken(t, entratest.DemoBlueprintClientID)}
		}, "cannot act on behalf of a user"},
		"a managed identity for a user": {func(e *entra) (exchange.Identity, exchange.Request) {
			return exchange.ManagedIdentity{}, exchange.Request{Scopes: []string{userRead}, User: e.userToken(t, entratest.DemoClientID)}
		}, "cannot act on behalf of a user"},
		"a managed identity and no client of it": {func(*entra) (exchange.Identity, exchange.Request) {
			return exchange.ManagedIdentity{}, exchange.Request{Scopes: []string{graph}}
		}, "not set up"},
		"an agent user without a name": {func(e *entra) (exchange.Identity, exchange.Request) {
			return exchange.AgentUser{Agent: e.agent()}, exchange.Request{Scopes: []string{graph}}
		}, "needs a user name or an object id"},
		"an agent user with two names": {func(e *entra) (exchange.Identity, exchange.Request) {
			return exchange.AgentUser{Agent: e.agent(), Username: "a@b.c", ObjectID: entratest.DemoAgentUserID}, exchange.Request{Scopes: []string{graph}}
		}, "and not both"},
		"an agent user's name that is none": {func(e *entra) (exchange.Identity, exchange.Request) {
			return exchange.AgentUser{Agent: e.agent(), Username: "x&grant_type=y"}, exchange.Request{Scopes: []string{graph}}
		}, "not a user principal name"},
		"an agent's id that is none": {func(e *entra) (exchange.Identity, exchange.Request) {
			return exchange.Agent{Blueprint: e.app, ID: "../x"}, exchange.Request{Scopes: []string{graph}}
		}, "not a GUID"},
		"the token exchange": {func(e *entra) (exchange.Identity, exchange.Request) {
			return e.agent(), exchange.Request{Scopes: []string{"api://AzureADTokenExchange/.default"}}
		}, "not handed out"},
		"the token exchange by its id": {func(e *entra) (exchange.Identity, exchange.Request) {
			return e.app, exchange.Request{Scopes: []string{entratest.TokenExchangeResourceID + "/.default"}}
		}, "not handed out"},
		"the token exchange of the cloud": {func(e *entra) (exchange.Identity, exchange.Request) {
			client, err := exchange.New(exchange.Config{Authority: authority, Audience: "api://federation.example", Transport: e.sent})
			if err != nil {
				panic(err)
			}
			e.client = client
			return e.app, exchange.Request{Scopes: []string{"api://federation.example/.default"}}
		}, "not handed out"},
		"no proof of a user": {func(e *entra) (exchange.Identity, exchange.Request) {
			return e.app, exchange.Request{Scopes: []string{graph}, User: exchange.User{ObjectID: entratest.DemoUserID}}
		}, "without a token or a session"},
		"a session of nobody": {func(e *entra) (exchange.Identity, exchange.Request) {
			return e.app, exchange.Request{Scopes: []string{graph}, KeepSession: true}
		}, "without a token or a session"},
		"two proofs of a user": {func(e *entra) (exchange.Identity, exchange.Request) {
			user := e.userToken(t, entratest.DemoClientID)
			user.Session = user.Token
			return e.app, exchange.Request{Scopes: []string{userRead}, User: user}
		}, "were both given"},
		"claims of nothing": {func(e *entra) (exchange.Identity, exchange.Request) {
			e.app.Capabilities = []string{"cp1"}
			return e.app, exchange.Request{Scopes: []string{userRead}, Claims: "null", User: exchange.User{Session: secret.New("s")}}
		}, "no claims request"},
		"claims in base64": {func(e *entra) (exchange.Identity, exchange.Request) {
			e.app.Capabilities = []string{"cp1"}
			return e.app, exchange.Request{Scopes: []string{graph}, Claims: "eyJhY2Nlc3NfdG9rZW4iOnt9fQ=="}
		}, "no claims request"},
		"claims of another type": {func(e *entra) (exchange.Identity, exchange.Request) {
			e.app.Capabilities = []string{"cp1"}
			return e.app, exchange.Request{Scopes: []string{graph}, Claims: `{"access_token":"x"}`}
		}, "no claims request"},
		"claims of no type": {func(e *entra) (exchange.Identity, exchange.Request) {
			e.app.Capabilities = []string{"cp1"}
			return e.app, exchange.Request{Scopes: []string{graph}, Claims: `{"access_token":null}`}
		}, "no claims request"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEntra(t)
			identity, req := test.change(e)
			_, err := e.client.Token(t.Context(), identity, req)
			got := asError(t, err)
			if got.Reason != exchange.BadRequest || !strings.Contains(got.Message, test.text) || got.Hint == "" || e.count() != 0 {
				t.Errorf("got %s %q (hint %q) after %d requests, want %s with %q and none", got.Reason, got.Message, got.Hint, e.count(), exchange.BadRequest, test.text)
			}
		})
	}
}

// A leg that Entra will not have any more is taken anew, once, and with it those
// before: whether it has expired or Entra has changed its keys.
func TestLegsAreRenewed(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, e *entra){
		"keys": func(t *testing.T, e *entra) {
			for range 5 { // until the first is not published any more
				e.server.RotateKeys()
				e.userToken(t, entratest.DemoClientID)
			}
		},
		"time": func(t *testing.T, e *entra) {
			e.server.SetBehavior(entratest.Behavior{ClockSkew: 2 * time.Hour})
			e.write(t, e.workloadToken(t, entratest.ServiceAccountToken{Lifetime: 24 * time.Hour}))
		},
	} {
		for kind, identity := range map[string]func(e *entra) exchange.Identity{
			"agent":      func(e *entra) exchange.Identity { return e.agent() },
			"agent user": func(e *entra) exchange.Identity { return e.agentUser() },
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				e := newEntra(t, withKeeper)
				e.write(t, e.workloadToken(t, entratest.ServiceAccountToken{Lifetime: 24 * time.Hour}))
				if _, err := e.client.Token(t.Context(), identity(e), exchange.Request{Scopes: []string{graph}}); err != nil {
					t.Fatal(err)
				}
				spoil(t, e)
				before := e.count()
				if _, err := e.client.Token(t.Context(), identity(e), exchange.Request{Scopes: []string{graph}}); err != nil {
					t.Errorf("got %v, want a token by new legs", err)
				}
				if e.count()-before < 3 {
					t.Errorf("got %d requests, want the legs taken anew", e.count()-before)
				}
			})
		}
	}
}

// What Entra refuses by new legs too is final, and remembered: who goes on asking has
// nothing sent. Mended, it is there ten seconds later.
func TestRefusalByNewLegsIsRemembered(t *testing.T) {
	for code, identity := range map[int]func(e *entra) exchange.Identity{
		700027: func(e *entra) exchange.Identity { return e.agent() },
		50013:  func(e *entra) exchange.Identity { return e.agentUser() },
		500133: func(e *entra) exchange.Identity { return e.agentUser() },
	} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEntra(t, withKeeper)
				refuse := respond(http.StatusBadRequest, "application/json", `{"error":"invalid_grant","error_codes":[`+strconv.Itoa(code)+`]}`)
				e.sent.answer = func(req *http.Request) (*http.Response, error) {
					if strings.Contains(formOf(req).Get("scope"), graph) { // none of the legs
						return refuse(req)
					}
					return e.sent.next.RoundTrip(req)
				}
				ask := func() error {
					_, err := e.client.Token(t.Context(), identity(e), exchange.Request{Scopes: []string{graph}})
					return err
				}
				first := asError(t, ask())
				sent := e.count()
				for range 3 {
					if again := asError(t, ask()); !again.HeldBack || again.CorrelationID != first.CorrelationID {
						t.Errorf("got %+v, want what was answered before", again)
					}
				}
				if got := e.count() - sent; got != 0 {
					t.Errorf("got %d more requests, want none", got)
				}
				e.sent.answer = nil
				time.Sleep(rememberFor)
				if err := ask(); err != nil {
					t.Errorf("got %v, want a token", err)
				}
			})
		})
	}
}

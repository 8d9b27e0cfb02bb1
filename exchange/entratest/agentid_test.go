package entratest_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/credfree/credfree/exchange/entratest"
)

const (
	blueprintID   = "b1000000-0000-4000-8000-000000000001"
	lonelyID      = "b1000000-0000-4000-8000-000000000002"
	managerID     = "b1000000-0000-4000-8000-000000000003"
	principalID   = "b2000000-0000-4000-8000-000000000001"
	childID       = "a9000000-0000-4000-8000-000000000001"
	siblingID     = "a9000000-0000-4000-8000-000000000002"
	disabledChild = "a9000000-0000-4000-8000-000000000003"
	foreignChild  = "a9000000-0000-4000-8000-000000000004"
	agentUserID   = "a5000000-0000-4000-8000-000000000001"
	siblingUserID = "a5000000-0000-4000-8000-000000000002"
	agentUserName = "child@contoso.example"
	exchange      = "api://AzureADTokenExchange/.default"
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// agentDirectory is directory() with two tenants that share a blueprint.
func agentDirectory() entratest.Directory {
	d := directory()
	home, other := &d.Tenants[0], &d.Tenants[1]
	trust := home.Applications[0].FederatedCredentials
	home.Applications = append(home.Applications,
		entratest.Application{
			ClientID: blueprintID, Name: "blueprint", Blueprint: true, MultiTenant: true, FederatedCredentials: trust,
			IdentifierURIs: []string{"api://blueprint"}, InheritablePermissions: []string{graph},
		},
		entratest.Application{ClientID: lonelyID, Name: "lonely", Blueprint: true, FederatedCredentials: trust},
		entratest.Application{ClientID: managerID, Name: "manager", Blueprint: true, FederatedCredentials: trust},
	)
	home.BlueprintPrincipals = []entratest.BlueprintPrincipal{
		{Blueprint: blueprintID, ObjectID: principalID, Delegated: map[string][]string{graph: {"Mail.Read"}, "api://ledger": {"admin"}}},
		{Blueprint: managerID, CreateAsManager: true},
	}
	home.AgentIdentities = []entratest.AgentIdentity{
		{
			ObjectID: childID, Name: "child", Blueprint: blueprintID,
			AppRoles:  map[string][]string{graph: {"User.Read.All"}, "api://ledger": {"Run"}},
			Delegated: map[string][]string{graph: {"User.Read"}, "api://ledger": {"run"}},
		},
		{ObjectID: siblingID, Name: "sibling", Blueprint: blueprintID},
		{ObjectID: disabledChild, Name: "gone", Blueprint: blueprintID, Disabled: true},
	}
	home.Users = append(home.Users,
		entratest.User{ObjectID: agentUserID, UserPrincipalName: agentUserName, AgentIdentity: childID},
		entratest.User{ObjectID: siblingUserID, UserPrincipalName: "sibling@contoso.example", AgentIdentity: siblingID},
	)
	other.Resources = home.Resources
	other.BlueprintPrincipals = []entratest.BlueprintPrincipal{{Blueprint: blueprintID}}
	other.AgentIdentities = []entratest.AgentIdentity{{ObjectID: foreignChild, Blueprint: blueprintID}}
	return d
}

func newAgentWorld(t testing.TB) *world { return newWorldOf(t, agentDirectory()) }

// leg1 asks for the token with which the blueprint acts as child.
func (w *world) leg1(t testing.TB, child string) url.Values {
	t.Helper()
	return with(w.appForm(t), "client_id", blueprintID, "scope", exchange, "fmi_path", child)
}

func (w *world) t1(t testing.TB, tenant, child string) string {
	t.Helper()
	a := w.post(t, tenant, w.leg1(t, child))
	if a.status != http.StatusOK {
		t.Fatalf("T1 for %s: got status %d %s, want 200", child, a.status, a.raw)
	}
	return a.text("access_token")
}

// agentForm is a request of the agent for an app-only token.
func (w *world) agentForm(t testing.TB) url.Values {
	t.Helper()
	return url.Values{
		"grant_type": {"client_credentials"}, "client_id": {childID}, "scope": {graphDefault},
		"client_assertion_type": {assertionType}, "client_assertion": {w.t1(t, tenantID, childID)},
	}
}

func (w *world) t2(t testing.TB) string {
	t.Helper()
	return w.post(t, tenantID, with(w.agentForm(t), "scope", exchange)).text("access_token")
}

// userFICForm is a request of the agent for its agent user's token.
func (w *world) userFICForm(t testing.TB) url.Values {
	t.Helper()
	return with(w.agentForm(t), "grant_type", "user_fic", "user_federated_identity_credential", w.t2(t),
		"username", agentUserName, "scope", graphDefault+" openid offline_access profile", "client_info", "1")
}

// agentOBOForm is a request of the agent on behalf of Ada.
func (w *world) agentOBOForm(t testing.TB) url.Values {
	t.Helper()
	return with(w.agentForm(t), "grant_type", grantOBO, "requested_token_use", "on_behalf_of",
		"assertion", w.userToken(t, entratest.UserTokenRequest{Audience: blueprintID}))
}

func checkFacets(t *testing.T, claims map[string]any, name string, want, unwanted []string) {
	t.Helper()
	text, _ := claims[name].(string)
	got := strings.Fields(text)
	for _, f := range want {
		if !slices.Contains(got, f) {
			t.Errorf("got %s %q, want %s in it", name, text, f)
		}
	}
	for _, f := range unwanted {
		if slices.Contains(got, f) {
			t.Errorf("got %s %q, want no %s in it", name, text, f)
		}
	}
	if len(got) <= len(want) {
		t.Errorf("got %s %q, want unknown facets too", name, text)
	}
}

func TestAgentTokenForTheExchange(t *testing.T) {
	w := newAgentWorld(t)
	_, claims := w.decode(t, w.t1(t, tenantID, childID), 2)
	checkClaims(t, claims, map[string]any{
		"aud": entratest.TokenExchangeResourceID, "iss": baseURL + "/" + tenantID + "/v2.0", "tid": tenantID, "ver": "2.0",
		"azp": blueprintID, "azpacr": "2", "oid": principalID, "idtyp": "app",
		"sub": "/eid1/c/pub/t/" + tenantText + "/a/" + blueprintText + "/" + childID,
	}, "roles", "scp", "appid", "xms_act_fct")
}

// The texts are the GUIDs' bytes as .NET orders them, in base64url, computed
// with Python's uuid.bytes_le.
const (
	tenantText    = "EREREREREUGBEREREREREQ"
	blueprintText = "AAAAsQAAAECAAAAAAAAAAQ"
)

func TestAgentTokensForResources(t *testing.T) {
	w := newAgentWorld(t)
	for _, c := range []struct {
		name     string
		form     url.Values
		version  int
		want     map[string]any
		absent   []string
		sub, not []string // facets of the subject
	}{
		{"autonomous v1", w.agentForm(t), 1, map[string]any{
			"idtyp": "app", "oid": childID, "sub": childID, "appid": childID, "appidacr": "2", "xms_par_app_azp": blueprintID,
			"xms_idrel": "7", "roles": []any{"User.Read.All"}, "scp": "/",
		}, []string{"azp"}, []string{"11"}, []string{"13"}},
		{"autonomous v2", with(w.agentForm(t), "scope", ledgerDefault), 2, map[string]any{
			"idtyp": "app", "oid": childID, "sub": childID, "azp": childID, "xms_par_app_azp": blueprintID, "xms_idrel": "7", "roles": []any{"Run"},
		}, []string{"scp", "appid"}, []string{"11"}, []string{"13"}},
		{"on behalf of", w.agentOBOForm(t), 1, map[string]any{
			"idtyp": "user", "oid": userID, "appid": childID, "xms_par_app_azp": blueprintID, "xms_idrel": "1", "scp": "User.Read Mail.Read",
		}, []string{"roles"}, nil, []string{"11", "13"}},
		{"on behalf of a guest", with(w.agentOBOForm(t), "assertion", w.userToken(t, entratest.UserTokenRequest{User: guestUser, Audience: "api://blueprint"})), 1, map[string]any{
			"idtyp": "user", "oid": guestUser, "xms_idrel": "5",
		}, nil, nil, []string{"11", "13"}},
		{"agent user", w.userFICForm(t), 1, map[string]any{
			"idtyp": "user", "oid": agentUserID, "sub": agentUserID, "appid": childID, "xms_par_app_azp": blueprintID, "xms_idrel": "1", "scp": "User.Read Mail.Read", "upn": agentUserName,
		}, []string{"roles", "amr"}, []string{"13"}, []string{"11"}},
		{"agent user by id", with(w.userFICForm(t), "username", "", "user_id", strings.ToUpper(agentUserID), "scope", "api://ledger/run", "requested_token_use", "on_behalf_of"), 2, map[string]any{
			"idtyp": "user", "oid": agentUserID, "azp": childID, "scp": "run",
		}, []string{"roles"}, []string{"13"}, []string{"11"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.post(t, tenantID, c.form)
			if a.status != http.StatusOK {
				t.Fatalf("got status %d %s, want 200", a.status, a.raw)
			}
			_, claims := w.decode(t, a.text("access_token"), c.version)
			checkClaims(t, claims, c.want, c.absent...)
			checkFacets(t, claims, "xms_act_fct", []string{"11"}, []string{"13"})
			checkFacets(t, claims, "xms_sub_fct", c.sub, c.not)
			checkFacets(t, claims, "xms_tnt_fct", nil, []string{"11", "13"})
		})
	}
}

func TestAgentRefusals(t *testing.T) {
	w := newAgentWorld(t)
	t1, t2, workload := w.t1(t, tenantID, childID), w.t2(t), w.workloadToken(t)
	ownT1 := with(w.appForm(t), "client_id", managerID, "scope", exchange, "fmi_path", childID)
	otherParent := w.post(t, tenantID, ownT1).text("access_token")
	user := func(audience string) string {
		return w.userToken(t, entratest.UserTokenRequest{Audience: audience})
	}
	siblingT2 := w.post(t, tenantID, with(w.agentForm(t), "client_id", siblingID, "client_assertion", w.t1(t, tenantID, siblingID), "scope", exchange)).text("access_token")
	leg1, agent, obo, fic := w.leg1(t, childID), w.agentForm(t), w.agentOBOForm(t), w.userFICForm(t)

	for _, c := range []struct {
		name   string
		form   url.Values
		status int
		error  string
		code   int
	}{
		{"blueprint without a child", with(leg1, "fmi_path", ""), 400, "unauthorized_client", 82001},
		{"blueprint for Graph", with(leg1, "fmi_path", "", "scope", graphDefault), 400, "unauthorized_client", 82001},
		{"blueprint for Graph as a child", with(leg1, "scope", graphDefault), 400, "unauthorized_client", 82001},
		{"manager for another resource", with(leg1, "client_id", managerID, "fmi_path", "", "scope", ledgerDefault), 400, "unauthorized_client", 82001},
		{"blueprint on behalf of a user", with(leg1, "fmi_path", "", "scope", graphDefault, "grant_type", grantOBO, "requested_token_use", "on_behalf_of", "assertion", user(blueprintID)), 400, "unauthorized_client", 82001},
		{"blueprint without a principal", with(leg1, "client_id", lonelyID), 401, "invalid_client", 7000229},
		{"malformed child", with(leg1, "fmi_path", "a b"), 400, "invalid_request", 90023},
		{"an application with a child", with(leg1, "client_id", agentID), 400, "invalid_request", 90023},
		{"blueprint with a secret", with(leg1, "client_assertion", "", "client_secret", "hunter2"), 401, "invalid_client", 7000215},

		{"agent with the workload's token", with(agent, "client_assertion", workload), 401, "invalid_client", 700211},
		{"agent with T2", with(agent, "client_assertion", t2), 401, "invalid_client", 7002137},
		{"agent with a sibling's T1", with(agent, "client_assertion", w.t1(t, tenantID, siblingID)), 401, "invalid_client", 7002137},
		{"agent with another blueprint's T1", with(agent, "client_assertion", otherParent), 401, "invalid_client", 7002137},
		{"agent with a T1 in another case", with(agent, "client_assertion", w.t1(t, tenantID, strings.ToUpper(childID))), 401, "invalid_client", 7002138},
		{"agent with another tenant's T1", with(agent, "client_assertion", w.t1(t, otherTenant, childID)), 401, "invalid_client", 700211},
		{"agent with a resource token", with(agent, "client_assertion", w.post(t, tenantID, with(agent, "scope", ledgerDefault)).text("access_token")), 401, "invalid_client", 700212},
		{"agent with a v1 token", with(agent, "client_assertion", w.post(t, tenantID, agent).text("access_token")), 401, "invalid_client", 700211},
		{"agent with a user's token", with(agent, "client_assertion", user(blueprintID)), 401, "invalid_client", 700229},
		{"agent with a forged T1", with(agent, "client_assertion", badSignature(t1)), 401, "invalid_client", 700027},
		{"agent with a secret", with(agent, "client_assertion", "", "client_secret", "hunter2"), 401, "invalid_client", 7000215},
		{"agent as a public client", with(agent, "client_assertion", ""), 401, "invalid_client", 7000218},
		{"disabled agent", with(agent, "client_id", disabledChild, "client_assertion", w.t1(t, tenantID, disabledChild)), 400, "unauthorized_client", 7000112},
		{"unknown agent", with(agent, "client_id", principalID, "client_assertion", w.t1(t, tenantID, principalID)), 400, "unauthorized_client", 700016},
		{"an agent as a resource", with(agent, "scope", childID+"/.default"), 400, "invalid_resource", 500011},
		{"agent for an agent", with(agent, "scope", exchange, "fmi_path", siblingID), 400, "invalid_request", 90023},
		{"application with T1", with(agent, "client_id", agentID), 401, "invalid_client", 700222},

		{"incoming token for the agent", with(obo, "assertion", w.userToken(t, entratest.UserTokenRequest{Audience: blueprintID, Claims: map[string]any{"aud": childID}})), 400, "invalid_grant", 500131},
		{"incoming token for Graph", with(obo, "assertion", user(graph)), 400, "invalid_grant", 50013},
		{"incoming token for an application", with(obo, "assertion", user(agentID)), 400, "invalid_grant", 500131},
		{"on behalf of itself", with(obo, "assertion", t1), 400, "invalid_grant", 500131},
		{"no consent", with(obo, "scope", "Mail.Send"), 400, "invalid_grant", 65001},
		{"permission of the blueprint that is not inheritable", with(obo, "scope", "api://ledger/admin"), 400, "invalid_grant", 65001},
		{"no consent for a sibling", with(fic, "client_id", siblingID, "client_assertion", w.t1(t, tenantID, siblingID), "username", "sibling@contoso.example",
			"user_federated_identity_credential", siblingT2, "scope", "api://ledger/run"), 400, "invalid_grant", 65001},

		{"no T2", with(fic, "user_federated_identity_credential", ""), 400, "invalid_request", 900144},
		{"no user", with(fic, "username", ""), 400, "invalid_request", 900144},
		{"name and id", with(fic, "user_id", agentUserID), 400, "invalid_request", 90023},
		{"id as a name", with(fic, "username", agentUserID), 400, "invalid_grant", 50034},
		{"name as an id", with(fic, "username", "", "user_id", agentUserName), 400, "invalid_grant", 50034},
		{"unknown user", with(fic, "username", "nobody@contoso.example"), 400, "invalid_grant", 50034},
		{"a person", with(fic, "username", "ada@contoso.example"), 401, "invalid_client", 700213},
		{"another agent's user", with(fic, "username", "sibling@contoso.example"), 401, "invalid_client", 700213},
		{"T1 as T2", with(fic, "user_federated_identity_credential", t1), 401, "invalid_client", 7002137},
		{"T2 as T1", with(fic, "client_assertion", t2), 401, "invalid_client", 7002137},
		{"a sibling's T2", with(fic, "user_federated_identity_credential", siblingT2), 401, "invalid_client", 7002137},
		{"the workload's token as T2", with(fic, "user_federated_identity_credential", workload), 400, "invalid_grant", 50013},
		{"a forged T2", with(fic, "user_federated_identity_credential", badSignature(t2)), 400, "invalid_grant", 50013},
		{"a resource token as T2", with(fic, "user_federated_identity_credential", w.post(t, tenantID, with(agent, "scope", ledgerDefault)).text("access_token")), 400, "invalid_grant", 500131},
		{"a user's token as T2", with(fic, "user_federated_identity_credential", user("api://ledger")), 401, "invalid_client", 700229},
		{"user_fic of an application", with(fic, "client_id", agentID, "client_assertion", workload), 400, "unsupported_grant_type", 70003},
		{"user_fic of the blueprint", with(fic, "client_id", blueprintID, "client_assertion", workload), 400, "unsupported_grant_type", 70003},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkRefusal(t, w.post(t, tenantID, c.form), c.status, c.error, c.code)
		})
	}
	a := w.post(t, tenantID, with(agent, "client_assertion", w.t1(t, tenantID, siblingID)))
	if want := "/eid1/c/pub/t/" + tenantText + "/a/" + blueprintText + "/" + childID + "'."; !strings.Contains(a.text("error_description"), want) {
		t.Errorf("got %q, want the expected subject %s", a.text("error_description"), want)
	}
}

// TestExchangeTokensOfOthers has tokens that Entra would not issue, each with
// one claim of another client.
func TestExchangeTokensOfOthers(t *testing.T) {
	w := newAgentWorld(t)
	token := func(azp, sub string) string {
		return w.userToken(t, entratest.UserTokenRequest{Audience: entratest.TokenExchangeAudience, Claims: map[string]any{
			"idtyp": "app", "scp": nil, "azp": azp, "sub": sub,
		}})
	}
	subject := "/eid1/c/pub/t/" + tenantText + "/a/" + blueprintText + "/" + childID
	agent, fic := w.agentForm(t), w.userFICForm(t)
	for name, c := range map[string]struct {
		form url.Values
		code int
	}{
		"T1":                   {with(agent, "client_assertion", token(blueprintID, subject)), 0},
		"T1 of another client": {with(agent, "client_assertion", token(managerID, subject)), 7002137},
		"T2":                   {with(fic, "user_federated_identity_credential", token(childID, childID)), 0},
		"T2 of another client": {with(fic, "user_federated_identity_credential", token(siblingID, childID)), 7002137},
		"T2 for another agent": {with(fic, "user_federated_identity_credential", token(childID, siblingID)), 7002137},
	} {
		if a := w.post(t, tenantID, c.form); a.code() != c.code {
			t.Errorf("%s: got %d %s, want code %d", name, a.status, a.raw, c.code)
		}
	}
}

// TestDisabledBlueprint ends its agents too, also those that have a T1.
func TestDisabledBlueprint(t *testing.T) {
	d := agentDirectory()
	d.Tenants[0].BlueprintPrincipals[0].Disabled = true
	w := newWorldOf(t, d)
	checkRefusal(t, w.post(t, tenantID, w.leg1(t, childID)), 400, "unauthorized_client", 7000112)
	form := with(w.appForm(t), "client_id", childID, "client_assertion", w.t1(t, otherTenant, childID))
	checkRefusal(t, w.post(t, tenantID, form), 400, "unauthorized_client", 7000112)
}

func TestBlueprintManagesAgents(t *testing.T) {
	d := agentDirectory()
	// Conditional Access does not apply to it.
	d.Tenants[0].ConditionalAccess = []entratest.ConditionalAccessPolicy{{
		Name: "p", Applications: []string{"All"}, Agents: []string{"All"}, Resources: []string{"All"}, Grant: "block",
	}}
	w := newWorldOf(t, d)
	a := w.post(t, tenantID, with(w.appForm(t), "client_id", managerID))
	_, claims := w.decode(t, a.text("access_token"), 1)
	checkClaims(t, claims, map[string]any{"appid": managerID, "roles": []any{"AgentIdentity.CreateAsManager"}})
}

// TestMultiTenantBlueprint has one blueprint act for agents of two tenants.
func TestMultiTenantBlueprint(t *testing.T) {
	w := newAgentWorld(t)
	form := with(w.agentForm(t), "client_id", foreignChild, "client_assertion", w.t1(t, otherTenant, foreignChild))
	a := w.post(t, otherTenant, form)
	if a.status != http.StatusOK {
		t.Fatalf("got status %d %s, want 200", a.status, a.raw)
	}
	_, claims := w.decode(t, a.text("access_token"), 1)
	checkClaims(t, claims, map[string]any{"tid": otherTenant, "appid": foreignChild, "xms_par_app_azp": blueprintID}, "roles")
	// The blueprint's home is not the agent's.
	checkRefusal(t, w.post(t, otherTenant, with(form, "client_assertion", w.t1(t, tenantID, foreignChild))), 401, "invalid_client", 700211)
	checkRefusal(t, w.post(t, tenantID, form), 400, "unauthorized_client", 700016)
	checkRefusal(t, w.post(t, otherTenant, with(form, "client_id", childID)), 400, "unauthorized_client", 700016)
}

func TestAgentsDoNotSignIn(t *testing.T) {
	w := newAgentWorld(t)
	for _, id := range []string{childID, blueprintID} {
		checkRefusal(t, w.get(t, "/"+tenantID+"/oauth2/v2.0/authorize?client_id="+id), 400, "invalid_request", 82014)
		a, err := w.send(t.Context(), http.MethodPost, "/"+tenantID+"/oauth2/v2.0/devicecode", "application/x-www-form-urlencoded", "client_id="+id)
		if err != nil {
			t.Fatal(err)
		}
		checkRefusal(t, a, 400, "invalid_request", 82014)
	}
	if a := w.get(t, "/"+tenantID+"/oauth2/v2.0/authorize?client_id="+agentID); a.status != http.StatusNotFound {
		t.Errorf("got status %d for an application, want 404", a.status)
	}
	if _, err := w.server.UserToken(entratest.UserTokenRequest{Tenant: tenantID, User: agentUserID, Audience: agentID}); err == nil {
		t.Error("got a sign-in of an agent user, want an error")
	}
}

// TestAgentUserThroughAnIntermediary keeps the facets of the subject when an
// application that is no agent acts on behalf of an agent user.
func TestAgentUserThroughAnIntermediary(t *testing.T) {
	d := agentDirectory()
	agentAPI := &d.Tenants[0].Resources
	*agentAPI = append(*agentAPI, entratest.Resource{ClientID: agentID, DelegatedScopes: []string{"access_as_user"}})
	d.Tenants[0].AgentIdentities[0].Delegated[agentID] = []string{"access_as_user"}
	w := newWorldOf(t, d)
	incoming := w.post(t, tenantID, with(w.userFICForm(t), "scope", agentID+"/access_as_user")).text("access_token")
	a := w.post(t, tenantID, with(w.userForm(t), "assertion", incoming))
	if a.status != http.StatusOK {
		t.Fatalf("got status %d %s, want 200", a.status, a.raw)
	}
	_, claims := w.decode(t, a.text("access_token"), 1)
	checkClaims(t, claims, map[string]any{"appid": agentID, "oid": agentUserID}, "xms_act_fct", "xms_par_app_azp")
	checkFacets(t, claims, "xms_sub_fct", []string{"13"}, []string{"11"})
}

// TestMSALAgents goes through all legs with Microsoft's own library.
func TestMSALAgents(t *testing.T) {
	w := newAgentWorld(t)
	opts := []confidential.Option{confidential.WithInstanceDiscovery(false), confidential.WithHTTPClient(w.client)}
	newClient := func(id string, assertion func(context.Context) (string, error)) confidential.Client {
		c, err := confidential.New(baseURL+"/"+tenantID, id, confidential.NewCredFromAssertionCallback(
			func(ctx context.Context, _ confidential.AssertionRequestOptions) (string, error) {
				return assertion(ctx)
			}), opts...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	blueprint := newClient(blueprintID, func(context.Context) (string, error) { return w.workloadToken(t), nil })
	agent := newClient(childID, func(ctx context.Context) (string, error) {
		r, err := blueprint.AcquireTokenByCredential(ctx, []string{exchange}, confidential.WithFMIPath(childID))
		return r.AccessToken, err
	})
	check := func(name, token string, err error, oid string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, claims := w.decode(t, token, 1); claims["oid"] != oid || claims["appid"] != childID {
			t.Errorf("%s: got oid %v and appid %v, want %s and the agent", name, claims["oid"], claims["appid"], oid)
		}
	}
	r, err := agent.AcquireTokenByCredential(t.Context(), []string{graphDefault})
	check("autonomous", r.AccessToken, err, childID)
	r, err = agent.AcquireTokenOnBehalfOf(t.Context(), w.userToken(t, entratest.UserTokenRequest{Audience: blueprintID}), []string{graphDefault})
	check("on behalf of", r.AccessToken, err, userID)
	t2, err := agent.AcquireTokenByCredential(t.Context(), []string{exchange})
	if err != nil {
		t.Fatal(err)
	}
	r, err = agent.AcquireTokenByUserFederatedIdentityCredential(t.Context(), []string{graphDefault}, t2.AccessToken, confidential.WithUserObjectID(agentUserID))
	check("agent user", r.AccessToken, err, agentUserID)
	silent, err := agent.AcquireTokenSilent(t.Context(), []string{graphDefault}, confidential.WithSilentAccount(r.Account))
	check("silent", silent.AccessToken, err, agentUserID)
	// Other scopes need the refresh token, redeemed with T1.
	silent, err = agent.AcquireTokenSilent(t.Context(), []string{"api://ledger/run"}, confidential.WithSilentAccount(r.Account))
	if err != nil {
		t.Fatalf("refresh: %v", err)
	}
	if _, claims := w.decode(t, silent.AccessToken, 2); claims["oid"] != agentUserID || claims["azp"] != childID {
		t.Errorf("refresh: got claims %v, want the agent user's", claims)
	}
}

func TestExpiredAgentTokens(t *testing.T) {
	w := newAgentWorld(t)
	fic := w.userFICForm(t)
	w.server.SetBehavior(entratest.Behavior{ClockSkew: 2 * time.Hour})
	checkRefusal(t, w.post(t, tenantID, fic), 401, "invalid_client", 700024)
	// T1 may be younger than T2.
	w.server.SetBehavior(entratest.Behavior{Lifetime: 24 * time.Hour})
	fresh := with(fic, "client_assertion", w.t1(t, tenantID, childID))
	w.server.SetBehavior(entratest.Behavior{ClockSkew: 2 * time.Hour})
	checkRefusal(t, w.post(t, tenantID, fresh), 400, "invalid_grant", 500133)
}

// TestSubjectOfAKnownTenant compares with a subject that Entra has published.
func TestSubjectOfAKnownTenant(t *testing.T) {
	d := agentDirectory()
	d.Tenants[0].ID = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	w := newWorldOf(t, d)
	a := w.post(t, "contoso.example", w.leg1(t, childID))
	_, claims := unverified(t, a.text("access_token"))
	if got, want := claims["sub"], "/eid1/c/pub/t/v4j5cvGGr0GRqy180BHbRw/a/"+blueprintText+"/"+childID; got != want {
		t.Errorf("got sub %v, want %s", got, want)
	}
}

// TestApplicationTrustsAnAgentSubject has an application with a federated
// credential for the very subject of a T1.
func TestApplicationTrustsAnAgentSubject(t *testing.T) {
	d := agentDirectory()
	d.Tenants[0].Applications[2].FederatedCredentials = []entratest.FederatedCredential{{
		Issuer: baseURL + "/" + tenantID + "/v2.0", Audience: entratest.TokenExchangeAudience,
		Subject: "/eid1/c/pub/t/" + tenantText + "/a/" + blueprintText + "/" + childID,
	}}
	w := newWorldOf(t, d)
	form := with(w.appForm(t), "client_id", bareID)
	if a := w.post(t, tenantID, with(form, "client_assertion", w.t1(t, tenantID, childID))); a.status != http.StatusOK {
		t.Errorf("got status %d %s, want 200", a.status, a.raw)
	}
	checkRefusal(t, w.post(t, tenantID, with(form, "client_assertion", w.t1(t, tenantID, siblingID))), 401, "invalid_client", 7002137)
	checkRefusal(t, w.post(t, tenantID, with(form, "client_assertion", w.t2(t))), 401, "invalid_client", 700222)
}

package localapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/exchange/entratest"
)

// closed are the routes without users, as the auth sidecar closes them.
func closed(cfg *localapi.Config) {
	cfg.Sidecar.Closed = map[string]bool{"GetAuthorizationHeaderUnauthenticated": true, "CallDownstreamApiUnauthenticated": true}
}

func silent(cfg *localapi.Config) { cfg.Sidecar.Silent = true }

// Where requests may change nothing, one that wants to is refused, and told by
// what. The auth sidecar answers with a token of somebody else.
func TestSidecarClosedRoutes(t *testing.T) {
	d, a := openCalls(t, openCaller, emulated, closed)
	const rule = "Sidecar__AllowOverrides__"
	for _, query := range []string{asAgent, asApp, scopesAre + graph, tenantIs + entratest.DemoTenantID, "optionsOverride.Unheard=x", "AgentUserId=x", pathIs + "x"} {
		p := problemIn(t, d.send(t, http.MethodGet, ownHeader+"graph?"+query, ""))
		if p.Status != 403 || p.Reason != "override_not_allowed" || p.Rule != rule+"GetAuthorizationHeaderUnauthenticated" || !strings.Contains(p.Hint, p.Rule+"=true") {
			t.Errorf("%s: got %+v", query, p)
		}
		if p := problemIn(t, d.send(t, http.MethodPost, ownCall+"tools?"+query, "")); p.Rule != rule+"CallDownstreamApiUnauthenticated" {
			t.Errorf("%s: got %+v", query, p)
		}
		if line := d.audited(); strings.Count(line, `"reason":"override_not_allowed"`) != 2 {
			t.Errorf("%s: recorded is %s", query, line)
		}
	}
	if a.calls.Load() != 0 {
		t.Error("the API was called")
	}
	// What asks for nothing else is answered, and the other routes are open.
	tokenIn(t, d.send(t, http.MethodGet, ownHeader+"graph?trace=1", ""))
	tokenIn(t, d.send(t, http.MethodGet, header+"graph?"+asAgent+"&"+asApp, "", d.bearer(t, entratest.DemoClientID)...))
	downstreamIn(t, d.send(t, http.MethodPost, ownCall+"tools", ""))
}

// openCaller is an agent that may have tokens and call.
func openCaller(string) string {
	return strings.Replace(sidecar("")(""), "apis: [graph]", "apis: [graph, tools]", 1)
}

// Silent, the door does what the auth sidecar does, and gives nothing that the
// policy does not.
func TestSidecarSilence(t *testing.T) {
	d := open(t, sidecar(""), closed, silent)
	for _, query := range []string{asAgent, asRobot, asApp, scopesAre + "https://vault.azure.net/.default", tenantIs + otherAgentID, "optionsOverride.Unheard=x",
		"AgentUserId=x", "AgentIdentity=", "optionsOverride.AcquireTokenOptions.FmiPath=x"} {
		token := d.verify(t, tokenIn(t, d.send(t, http.MethodGet, ownHeader+"graph?"+query, "")))
		if token.Client != entratest.DemoClientID || token.ObjectID == entratest.DemoAgentUserID {
			t.Errorf("%s: got %+v, want the agent's own identity", query, token)
		}
	}
	if line := d.audited(); !strings.Contains(line, `"client_id":"`+entratest.DemoClientID) || strings.Contains(line, entratest.DemoAgentIdentityID) {
		t.Errorf("recorded is %s", line)
	}
	// Open routes: what makes no sense is passed over, the last of several counts.
	open := open(t, sidecar(""), silent)
	for query, client := range map[string]string{
		"AgentUserId=" + entratest.DemoAgentUserID: entratest.DemoClientID, "AgentIdentity=+": entratest.DemoClientID, "optionsOverride.RequestAppToken=please": entratest.DemoClientID,
		"optionsOverride.CustomHeader.x=1": entratest.DemoClientID, "AgentIdentity=x&" + asAgent: entratest.DemoAgentIdentityID,
	} {
		if token := open.verify(t, tokenIn(t, open.send(t, http.MethodGet, ownHeader+"graph?"+query, ""))); token.Client != client {
			t.Errorf("%s: got %+v", query, token)
		}
	}
	for query, reason := range map[string]string{
		scopesAre + "https://vault.azure.net/.default": "scope_not_allowed", "AgentIdentity=x": "identity_not_allowed", asRobot + "&AgentUsername=x@y.example": "identity_not_allowed",
		"optionsOverride.AcquireTokenOptions.FmiPath=x": "override_not_allowed", tenantIs + otherAgentID: "override_not_allowed",
	} {
		if p := problemIn(t, open.send(t, http.MethodGet, ownHeader+"graph?"+query, "")); p.Reason != reason {
			t.Errorf("%s: got %+v", query, p)
		}
	}
}

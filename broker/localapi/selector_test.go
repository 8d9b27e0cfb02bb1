package localapi

import (
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/policy"
)

const (
	appID    = "aaaaaaaa-0000-4000-8000-000000000001"
	agentID  = "aaaaaaaa-0000-4000-8000-000000000002"
	agentID2 = "aaaaaaaa-0000-4000-8000-000000000003"
	userID   = "aaaaaaaa-0000-4000-8000-000000000004"
	vmID     = "aaaaaaaa-0000-4000-8000-000000000005"
	vmObject = "aaaaaaaa-0000-4000-8000-000000000006"
	armID    = "/subscriptions/x/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
)

func selectable() *policy.Policy {
	return &policy.Policy{Identities: map[string]policy.Identity{
		"app":    {Application: &policy.Application{ClientID: appID}},
		"app-2":  {Application: &policy.Application{ClientID: appID}},
		"fleet":  {Agent: &policy.AgentIdentity{AgentIDs: []string{agentID, agentID2}}},
		"a-user": {AgentUser: &policy.AgentUser{AgentID: agentID, Users: []policy.AgentUserName{{ObjectID: userID}}}},
		"named":  {AgentUser: &policy.AgentUser{AgentID: userID, Users: []policy.AgentUserName{{Username: "robot@contoso.com"}}}},
		"vm":     {ManagedIdentity: &policy.ManagedIdentity{ClientID: vmID}},
		"vm-2":   {ManagedIdentity: &policy.ManagedIdentity{ObjectID: vmObject}},
		"vm-3":   {ManagedIdentity: &policy.ManagedIdentity{ResourceID: armID}},
		"system": {ManagedIdentity: &policy.ManagedIdentity{}},
	}}
}

func TestSelectors(t *testing.T) {
	p := selectable()
	for name, test := range map[string]struct {
		form     form
		identity string
	}{
		"none":                    {form{{"resource", "x"}}, ""},
		"empty":                   {form{{"client_id", ""}, {"clientid", ""}}, ""},
		"by name":                 {form{{"identity", "fleet/" + agentID}}, "fleet/" + agentID},
		"client id":               {form{{"client_id", appID}}, "app"},
		"in capitals":             {form{{"client_id", strings.ToUpper(appID)}}, "app"},
		"legacy":                  {form{{"clientid", appID}}, "app"},
		"agent before its user":   {form{{"client_id", agentID}}, "fleet/" + agentID},
		"another of the fleet":    {form{{"client_id", strings.ToUpper(agentID2)}}, "fleet/" + agentID2},
		"agent by object id":      {form{{"object_id", agentID}}, "fleet/" + agentID},
		"agent user":              {form{{"client_id", userID}}, "named"},
		"user by object id":       {form{{"principal_id", userID}}, "a-user/" + userID},
		"machine":                 {form{{"client_id", vmID}}, "vm"},
		"machine by object id":    {form{{"object_id", vmObject}}, "vm-2"},
		"machine by resource id":  {form{{"mi_res_id", strings.ToUpper(armID)}}, "vm-3"},
		"as IMDS spells it":       {form{{"msi_res_id", armID}}, "vm-3"},
		"as a probe spells it":    {form{{"msi-res-id", armID}}, "vm-3"},
		"unknown":                 {form{{"client_id", "x"}}, "client_id=x"},
		"a name is no client id":  {form{{"client_id", "app"}}, "client_id=app"},
		"client id as object id":  {form{{"object_id", appID}}, "object_id=" + appID},
		"object id as client id":  {form{{"client_id", vmObject}}, "client_id=" + vmObject},
		"nothing is no system id": {form{{"mi_res_id", " "}}, "mi_res_id= "},
	} {
		t.Run(name, func(t *testing.T) {
			for range 10 { // a map has no order, an answer has one
				identity, problem := selected(test.form, p)
				if problem != nil || identity != test.identity {
					t.Fatalf("got %q (%v), want %q", identity, problem, test.identity)
				}
			}
		})
	}
	for _, two := range []form{{{"client_id", appID}, {"object_id", appID}}, {{"mi_res_id", armID}, {"msi_res_id", armID}}, {{"identity", "app"}, {"client_id", appID}}} {
		if identity, problem := selected(two, p); problem == nil || identity != "" {
			t.Errorf("%v: got %q, %v", two, identity, problem)
		}
	}
}

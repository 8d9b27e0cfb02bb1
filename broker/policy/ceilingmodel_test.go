package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/policy"
)

// modelCeiling is a ceiling written a second time, slowly.
type modelCeiling struct {
	tenants, clientIDs, hosts []string
	allow, forUser            *modelAtMost
	userTenants, clients      []string
	noGuests, owner, expires  bool
	audit, keepsToken         bool
	blockedAgents             []string
	blockedUsers              []policy.UserID
}

type modelAtMost struct{ scopes, resources []string }

func randomCeiling(rng *rand.Rand) modelCeiling {
	atMost := func() *modelAtMost {
		if rng.IntN(3) > 0 {
			return nil
		}
		return &modelAtMost{append(some(rng, modelGood), some(rng, modelGood)...), some(rng, []string{"https://graph.microsoft.com", "https://search.azure.com", "https://management.azure.com", "api://Contoso.Orders"})}
	}
	c := modelCeiling{
		tenants: seldom(rng, append([]string{"contoso.com"}, modelTenants...)), clientIDs: seldom(rng, []string{billingID, agentOne, agentTwo}),
		hosts: seldom(rng, []string{"mail.contoso.com", "orders.contoso.com"}), allow: atMost(), forUser: atMost(),
		userTenants: seldom(rng, modelTenants), clients: seldom(rng, modelClients), noGuests: rng.IntN(4) == 0,
		owner: rng.IntN(30) == 0, expires: rng.IntN(6) == 0, audit: rng.IntN(2) == 0, blockedAgents: seldom(rng, []string{"agent-0"}),
	}
	c.keepsToken = len(c.hosts) > 0 && rng.IntN(2) == 0
	for _, user := range seldom(rng, modelUsers) {
		c.blockedUsers = append(c.blockedUsers, policy.UserID{Tenant: tenantID, ObjectID: user})
	}
	return c
}

func (a *modelAtMost) yaml() string {
	return "{scopes: [" + strings.Join(slices.Compact(slices.Sorted(slices.Values(a.scopes))), ", ") + "], resources: [" + strings.Join(a.resources, ", ") + "]}"
}

func (c modelCeiling) file() string {
	var b strings.Builder
	b.WriteString("version: 1\n" + line("", "tenants", c.tenants) + line("", "clientIDs", c.clientIDs) + line("", "apiHosts", c.hosts))
	if c.allow != nil {
		b.WriteString("allow: " + c.allow.yaml() + "\n")
	}
	fmt.Fprintf(&b, "onBehalfOf:\n  users:\n    guests: %v\n%s%s", !c.noGuests, line("    ", "tenants", c.userTenants), line("  ", "clients", c.clients))
	if c.forUser != nil {
		b.WriteString("  allow: " + c.forUser.yaml() + "\n")
	}
	fmt.Fprintf(&b, "require: {owner: %v, expires: %v}\nrawToken: %v\naudit: %v\n", c.owner, c.expires, !c.keepsToken, c.audit)
	fmt.Fprintf(&b, "blocked: {agents: [%s], users: [%s]}\n", strings.Join(c.blockedAgents, ", "), strings.Join(ids(c.blockedUsers), ", "))
	return b.String()
}

// modelClients are the client ids of the identities of every file.
var modelIdentityClients = map[string]string{"app": billingID, "web": billingID, "dns": billingID, "mail": agentOne}

// allows says whether the ceiling lets through what a policy has allowed. It
// looks at the answer and the request alone.
func (c modelCeiling) allows(m modelPolicy, r policy.Request, d policy.Decision) bool {
	i := slices.IndexFunc(m.agents, func(a modelAgent) bool { return a.name == d.Agent.Name })
	agent := m.agents[i]
	expired := agent.expires != "" && r.Now.UTC().Format("2006-01-02") > agent.expires
	if slices.Contains(c.blockedAgents, agent.name) || c.owner || c.expires && (agent.expires == "" || expired) || d.Audited && !c.audit || r.Raw && c.keepsToken {
		return false // no agent of the model has an owner
	}
	tenant, client := modelIdentities[d.Identity].tenant, modelIdentityClients[d.Identity]
	if tenant == "" {
		tenant = "contoso.com"
	}
	if client == "" {
		client = d.Member
	}
	if len(c.tenants) > 0 && !slices.Contains(c.tenants, tenant) || len(c.clientIDs) > 0 && !slices.Contains(c.clientIDs, client) {
		return false
	}
	most := c.allow
	if d.OnBehalfOf && c.forUser != nil {
		most = c.forUser
	}
	for _, scope := range d.Scopes {
		within := func(resource string) bool {
			return strings.HasPrefix(scope, resource+"/") && !strings.Contains(scope[len(resource)+1:], "/")
		}
		asARM := scope == modelARMAlias && most != nil && (slices.Contains(most.scopes, modelARM) || slices.Contains(most.resources, "https://management.azure.com"))
		if most != nil && !slices.Contains(most.scopes, scope) && !slices.ContainsFunc(most.resources, within) && !asARM {
			return false
		}
	}
	if r.Method != "" && len(c.hosts) > 0 && !slices.Contains(c.hosts, r.API+".contoso.com") {
		return false
	}
	if u := r.User; d.OnBehalfOf {
		return !slices.Contains(c.blockedUsers, policy.UserID{Tenant: u.Tenant, ObjectID: u.ObjectID}) && (len(c.userTenants) == 0 || slices.Contains(c.userTenants, u.Tenant)) &&
			(len(c.clients) == 0 || slices.Contains(c.clients, u.Client)) && (!c.noGuests || !u.Guest)
	}
	return true
}

// TestCeilingModel: under a ceiling, exactly that is allowed which the policy
// alone allows and the ceiling does: never more than either of the two.
func TestCeilingModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	both, byPolicy, byCeiling := 0, 0, 0
	for range 3000 {
		m, c := randomPolicy(rng), randomCeiling(rng)
		alone, err := policy.Parse("/etc/credfree.yaml", []byte(m.file()))
		if err != nil {
			continue
		}
		above, err := policy.ParseCeiling("/etc/ceiling.yaml", []byte(c.file()))
		if err != nil {
			t.Fatalf("%v\n%s", err, c.file())
		}
		narrowed, err := policy.ParseWith("/etc/credfree.yaml", []byte(m.file()), policy.Options{Ceiling: above})
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			r := aimed(rng, m)
			before, now := alone.Decide(r), narrowed.Decide(r)
			want := before.Allowed && c.allows(m, r, before)
			if now.Allowed != want {
				t.Fatalf("%+v, user %+v:\nalone %+v\nunder %+v\nwant allowed %v\n%s%s", r, r.User, before, now, want, m.file(), c.file())
			}
			switch {
			case now.Allowed:
				both++
				if now.Scope != before.Scope || now.Identity != before.Identity || now.Member != before.Member || now.Agent.Name != before.Agent.Name || now.RawToken && !before.RawToken || now.LongRunning > before.LongRunning {
					t.Fatalf("got %+v, want no more than %+v", now, before)
				}
			case before.Allowed:
				byCeiling++
				// What is purged from caches is what would be denied without a user.
				if !r.OnBehalfOf && r.Method == "" && !r.Raw && now.Reason == policy.AboveCeiling && narrowed.Permits(before.Agent.Name, before.Identity, before.Member, before.Scopes, false) {
					t.Fatalf("%+v is denied with %+v, and its token may stay", r, now)
				}
			default:
				byPolicy++
			}
		}
	}
	if both < 3000 || byPolicy < 3000 || byCeiling < 3000 {
		t.Errorf("got %d allowed, %d denied by the policy and %d by the ceiling: too few to prove anything", both, byPolicy, byCeiling)
	}
}

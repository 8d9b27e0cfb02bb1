package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
)

const (
	maxGroupUsers  = 1 << 10
	groupsFor      = 5 * time.Minute // a user who leaves a group is noticed that late
	groupsTimeout  = 10 * time.Second
	maxGroupsBytes = 2 << 20 // 20,000 groups
)

// groups asks Microsoft Graph for the groups of users whose tokens do not list
// them, and remembers the answers for a while:
// https://learn.microsoft.com/graph/api/directoryobject-getmemberobjects.
type groups struct {
	now func() time.Time

	mu    sync.Mutex // guards known; not held while asking
	known *simplelru.LRU[policy.UserID, membership]
}

type membership struct {
	groups []string
	until  time.Time
}

func newGroups(now func() time.Time) (*groups, error) {
	known, err := simplelru.NewLRU[policy.UserID, membership](maxGroupUsers, nil)
	return &groups{now: now, known: known}, err
}

func (g *groups) lookup(id policy.UserID) ([]string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, ok := g.known.Get(id)
	if !ok || !g.now().Before(m.until) {
		return nil, false
	}
	return m.groups, true
}

func (g *groups) remember(id policy.UserID, list []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known.Add(id, membership{list, g.now().Add(groupsFor)})
}

// resolveGroups puts the user's groups in the place of the overage. When they
// cannot be had, the overage stays, and with it the denial.
func (b *Broker) resolveGroups(ctx context.Context, rec *issuance.Record, g *generation, d policy.Decision, user *verified) error {
	id := policy.UserID{Tenant: user.Tenant, ObjectID: user.ObjectID}
	list, ok := b.groups.lookup(id)
	if !ok {
		ctx, end := b.cfg.Recorder.Work(ctx, rec, "user.groups")
		var err error
		if list, err = b.askGraph(ctx, g, d, id); err != nil {
			end(string(policy.GroupsOverage))
			return &Denied{Agent: d.Agent.Name, Reason: policy.GroupsOverage, Rule: d.Rule,
				Hint: "the user is in more groups than the token lists, and Microsoft Graph did not tell which: " + err.Error() +
					"; grant the identity GroupMember.Read.All, or assign groups to the application so that the token lists those alone"}
		}
		end("")
		b.groups.remember(id, list)
	}
	user.Groups, user.GroupsOverage, user.unlisted = list, false, true
	return nil
}

const graphVersion = "/v1.0"

// graphAPI returns the resource of Microsoft Graph, and where it is: at the
// resource's own address, whatever APIs the policy has of that resource. Those
// are agents' business, and may be anybody's. A cloud of one's own can have it
// beside the authority, which could make such tokens itself.
func (g *generation) graphAPI() (resource, baseURL string) {
	cloud := g.Policy.Cloud
	resource = cloud.Resources["graph"]
	for _, name := range slices.Sorted(maps.Keys(g.Policy.APIs)) {
		api := g.Policy.APIs[name]
		if cloud.Name == "custom" && strings.HasPrefix(api.Scopes[0], resource+"/") && isGraphAt(api.BaseURL, cloud.Authority) {
			return resource, api.BaseURL
		}
	}
	if !strings.HasPrefix(resource, "https://") {
		return resource, ""
	}
	return resource, resource + graphVersion
}

// isGraphAt reports whether baseURL is all of a Microsoft Graph on the host of an
// origin.
func isGraphAt(baseURL, origin string) bool {
	at, err := url.Parse(baseURL)
	of, problem := url.Parse(origin)
	return err == nil && problem == nil && at.Scheme == "https" && at.Hostname() == of.Hostname() && at.Path == graphVersion
}

// askGraph asks with a token of the broker's own, which no agent gets.
func (b *Broker) askGraph(ctx context.Context, g *generation, d policy.Decision, id policy.UserID) ([]string, error) {
	resource, base := g.graphAPI()
	if base == "" || g.Graph == nil {
		return nil, errors.New("there is no Microsoft Graph in this cloud")
	}
	p := g.principals[member{d.Identity, d.Member}]
	scopes := []string{resource + "/.default"}
	w := &want{Decision: policy.Decision{Scopes: scopes, Scope: scopes[0]}, principal: p, exchange: g.Exchange}
	// The key has no agent, so that no request can ever look it up.
	key := cache.Key{Identity: p.clientID, Tenant: p.tenant, Client: p.clientID, Scopes: scopes[0]}
	token, err := keep(ctx, b.cfg.Cache, b.cfg.Recorder, key, b.fetch(key, w))
	if failure, ok := errors.AsType[*exchange.Error](err); ok {
		return nil, fmt.Errorf("no token for it: %s", failure.Message)
	}
	if err != nil {
		return nil, errors.New("no token for it")
	}
	return memberObjects(ctx, g.Graph, base, token, id)
}

func memberObjects(ctx context.Context, graph http.RoundTripper, base string, token exchange.Token, id policy.UserID) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, groupsTimeout)
	defer cancel()
	target := base + "/users/" + url.PathEscape(id.ObjectID) + "/getMemberObjects"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader([]byte(`{"securityEnabledOnly":false}`)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	resp, err := graph.RoundTrip(req) // which follows no redirect
	if err != nil {
		return nil, errors.New("it cannot be reached")
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxGroupsBytes+1))
	var answer struct {
		Groups []string `json:"value"`
		Next   string   `json:"@odata.nextLink"`
	}
	switch {
	case err != nil:
		return nil, errors.New("its answer was cut off")
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answered with status %d", resp.StatusCode)
	case len(body) > maxGroupsBytes || json.Unmarshal(body, &answer) != nil || answer.Next != "":
		return nil, errors.New("its answer is not a list of groups that is whole")
	}
	for i, group := range answer.Groups {
		answer.Groups[i] = strings.ToLower(group)
	}
	return answer.Groups, nil
}

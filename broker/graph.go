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
	"time"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/workload"
)

const (
	graphTimeout   = 10 * time.Second
	maxGraphAnswer = 2 << 20 // 20,000 groups
)

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

// askGraph asks with a token of the broker's own, which no agent gets. The error
// says why there is none, or that Graph cannot be asked.
func (b *Broker) askGraph(ctx context.Context, g *generation, p *principal, id policy.UserID) (membership, error) {
	resource, base := g.graphAPI()
	if base == "" || g.Graph == nil {
		return membership{}, untold("there is no Microsoft Graph in this cloud")
	}
	scopes := []string{resource + "/.default"}
	w := &want{Decision: policy.Decision{Scopes: scopes, Scope: scopes[0]}, principal: p, exchange: g.Exchange}
	// The key has no agent, so that no request can ever look it up.
	key := cache.Key{Identity: p.clientID, Tenant: p.tenant, Client: p.clientID, Scopes: scopes[0]}
	for again := false; ; again = true {
		token, err := keep(ctx, b.cfg.Cache, b.cfg.Recorder, key, b.fetch(key, w))
		if failure, ok := errors.AsType[*exchange.Error](err); ok && !failure.Temporary() {
			return membership{}, untold("no token for it: " + failure.Message)
		}
		if err != nil {
			return membership{}, err
		}
		list, err := memberObjects(ctx, g.Graph, base, token, id)
		ofToken := errors.Is(err, status(http.StatusUnauthorized)) || errors.Is(err, status(http.StatusForbidden))
		if !ofToken || again || !b.replace(key, token) {
			return membership{list, err}, nil
		}
	}
}

// graphTokenFor is how long a token that Graph refuses is used all the same: a fresh
// one would be refused too.
const graphTokenFor = time.Minute

// replace forgets a token that Graph refuses, unless it is fresh, and reports whether
// there is or will be another one. It may have been revoked since, or be without rights
// that were granted since.
func (b *Broker) replace(key cache.Key, refused exchange.Token) bool {
	token, expires, _, ok := b.cfg.Cache.Lookup(key)
	if !ok || token.UniqueID != refused.UniqueID { // whoever asked at the same time was faster
		return true
	}
	return token.Lifetime-expires.Sub(b.cfg.Now()) >= graphTokenFor && b.cfg.Cache.Drop(key)
}

// status is what Graph refuses to tell with.
func status(code int) untold { return untold(fmt.Sprintf("it answered with status %d", code)) }

// memberObjects asks for the groups of a user:
// https://learn.microsoft.com/graph/api/directoryobject-getmemberobjects. The error
// is an untold, or an *exchange.Error that passes with RetryAfter.
func memberObjects(ctx context.Context, graph http.RoundTripper, base string, token exchange.Token, id policy.UserID) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, graphTimeout)
	defer cancel()
	target := base + "/users/" + url.PathEscape(id.ObjectID) + "/getMemberObjects"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader([]byte(`{"securityEnabledOnly":false}`)))
	if err != nil {
		return nil, untold("its address is none")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	resp, err := graph.RoundTrip(req) // which follows no redirect
	if err != nil {
		return nil, graphTrouble("it cannot be reached", nil)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxGraphAnswer+1))
	var answer struct {
		Groups []string `json:"value"`
		Next   string   `json:"@odata.nextLink"`
	}
	said := status(resp.StatusCode)
	switch {
	case err != nil:
		return nil, graphTrouble("its answer was cut off", nil)
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode >= http.StatusInternalServerError:
		return nil, graphTrouble(string(said), resp)
	case resp.StatusCode != http.StatusOK:
		return nil, said
	case len(body) > maxGraphAnswer || json.Unmarshal(body, &answer) != nil || answer.Next != "":
		return nil, untold("its answer is not a list of groups that is whole")
	}
	for i, group := range answer.Groups {
		answer.Groups[i] = strings.ToLower(group)
	}
	return answer.Groups, nil
}

// How long Graph is left alone after a failure that passes. What it asks for
// itself counts within bounds: throttling lasts, an outage often ends before it
// said.
const (
	leastTrouble, mostTrouble = 2 * time.Second, 5 * time.Second
	usualThrottling           = 10 * time.Second
	mostThrottling            = 5 * time.Minute
)

// graphTrouble is a failure that passes. resp is nil without an answer.
func graphTrouble(what string, resp *http.Response) *exchange.Error {
	failure := &exchange.Error{
		Reason: exchange.EntraUnavailable, RetryAfter: leastTrouble,
		Message: "the user is in more groups than the token lists, and Microsoft Graph cannot tell which now: " + what,
		Hint:    "ask again; if it lasts, check egress rules and proxy settings from the broker to Microsoft Graph",
	}
	if resp == nil {
		return failure
	}
	said := workload.RetryAfter(resp.Header.Get("Retry-After"), time.Now())
	failure.Status, failure.RetryAfter = resp.StatusCode, min(max(said, leastTrouble), mostTrouble)
	if resp.StatusCode == http.StatusTooManyRequests {
		failure.Reason, failure.RetryAfter = exchange.EntraThrottled, min(max(said, leastTrouble), mostThrottling)
		if said == 0 {
			failure.RetryAfter = usualThrottling
		}
	}
	return failure
}

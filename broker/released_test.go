package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/secret"
)

// What is known of tokens is bounded in bytes, whatever the users' tokens say, and
// gone once they have expired, whether anybody asks or not.
func TestReleasesAreBounded(t *testing.T) {
	r, err := newReleases()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	add := func(agent string, i, roles int, lifetime time.Duration) {
		user := &policy.User{}
		for n := range roles {
			user.Roles = append(user.Roles, fmt.Sprintf("%0100d", n))
		}
		r.add(secret.New(fmt.Sprint("token ", i)), &released{key: cache.Key{Agent: agent}, expires: now.Add(lifetime), user: user}, now)
	}
	checked := func(when string, want int) {
		t.Helper()
		sum := 0
		for _, known := range r.held.Values() {
			sum += known.size()
		}
		if r.held.Len() != want || r.bytes != sum || sum > maxReleasedBytes {
			t.Errorf("%s: got %d tokens of %d bytes, counted as %d, want %d", when, r.held.Len(), sum, r.bytes, want)
		}
	}
	for i := range 3000 {
		add("a", i, 100, time.Hour)
	}
	perToken := releasedOverhead + 100*116
	checked("large ones", maxReleasedBytes/perToken)
	add("a", 2999, 0, time.Hour)
	checked("one of them again", maxReleasedBytes/perToken)
	r.forget(func(key cache.Key) bool { return key.Agent == "a" })
	checked("a purge", 0)
	for i := range maxReleased + 100 {
		add("b", i, 0, time.Duration(1+i%2)*time.Hour)
	}
	checked("small ones", maxReleased)
	now = now.Add(time.Hour)
	add("b", -1, 0, time.Hour)
	checked("an hour later", maxReleased/2+1)
	if r.find("b", secret.New("token 101"), now) == nil {
		t.Error("one that is valid is unknown")
	}
}

// Of a user's groups those are kept that the agent's rules ask for.
func TestReleasesKeepWhatIsNeeded(t *testing.T) {
	agent := &policy.Agent{OnBehalfOf: &policy.OnBehalfOf{}}
	agent.OnBehalfOf.Users.Groups = []string{"wanted", "other"}
	user := policy.User{ObjectID: "ada", Roles: []string{"Analyst"}, Groups: []string{"first", "wanted"}}
	for range 200 {
		user.Groups = append(user.Groups, "another")
	}
	kept := asNeeded(user, agent)
	if len(kept.Groups) != 1 || cap(kept.Groups) > 4 || kept.Groups[0] != "wanted" || kept.ObjectID != "ada" || len(kept.Roles) != 1 || len(user.Groups) != 202 {
		t.Errorf("got %+v of %d groups", kept, len(user.Groups))
	}
}

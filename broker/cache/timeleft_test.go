package cache

import (
	"context"
	"maps"
	"testing"
	"time"
)

// The least time left is that of an agent's own tokens which are refreshed: not of
// legs, which nobody has, nor of tokens that end with a user's.
func TestTimeLeft(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c, err := New[string](Config{Clock: func() (time.Time, time.Duration) { return now, time.Duration(now.UnixNano()) }})
	if err != nil {
		t.Fatal(err)
	}
	put := func(agent, scopes string, entry Entry[string]) {
		t.Helper()
		if _, _, _, err := c.Get(t.Context(), Key{Agent: agent, Scopes: scopes}, func(context.Context) (Entry[string], error) { return entry, nil }); err != nil {
			t.Fatal(err)
		}
	}
	put("a", "long", Entry[string]{Lifetime: time.Hour})
	put("a", "short", Entry[string]{Lifetime: 20 * time.Minute})
	put("a", "a user's", Entry[string]{Lifetime: time.Minute, NoRefresh: true})
	put("b", "gone", Entry[string]{Lifetime: 5 * time.Minute})
	put("", "a leg", Entry[string]{Lifetime: time.Minute})
	now = now.Add(10 * time.Minute)
	if got, want := c.TimeLeft(), map[string]time.Duration{"a": 10 * time.Minute}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

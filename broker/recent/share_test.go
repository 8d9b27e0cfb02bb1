package recent_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker/recent"
)

// Whoever asks most often makes its own be forgotten, and nobody else's.
func TestTheBusiestGivesWay(t *testing.T) {
	const few, many = 100, 20 * recent.MaxIssuances
	denied := func(i *recent.Issuance) { i.Decision, i.Cache, i.Reason = recent.Deny, "", "scope_not_allowed" }
	for name, busy := range map[string]func(n int, i *recent.Issuance){
		"hits":                 func(int, *recent.Issuance) {},
		"denials":              func(_ int, i *recent.Issuance) { denied(i) },
		"denials of strangers": func(_ int, i *recent.Issuance) { denied(i); i.Agent = "" },
		"long words": func(n int, i *recent.Issuance) {
			denied(i)
			i.Scopes = nil
			for s := range 16 {
				i.Scopes = append(i.Scopes, fmt.Sprintf("https://%d.%d/%s", n, s, strings.Repeat("x", 230)))
			}
		},
		"inspections": func(_ int, i *recent.Issuance) { i.Inspection, i.Cache = true, "" },
		"failures": func(n int, i *recent.Issuance) {
			i.Decision, i.Cache, i.CorrelationID = recent.Fail, "miss", fmt.Sprint(n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := recent.New(began)
			var kept []string
			for n := range few {
				for sort, change := range []func(*recent.Issuance){func(*recent.Issuance) {}, denied, func(i *recent.Issuance) { i.Cache = "miss" }} {
					i := issuance(n*10 + sort)
					i.Agent = "quiet"
					change(i)
					m.Add(i)
					kept = append(kept, i.ID)
				}
			}
			for n := range many {
				i := issuance(1_000_000 + n)
				busy(n, i)
				m.Add(i)
			}
			for _, id := range kept {
				if _, ok := m.Get(id); !ok {
					t.Fatalf("%s is forgotten", id)
				}
			}
			if _, ok := m.Get(issuance(1_000_000 + many - 1).ID); !ok {
				t.Error("the newest is forgotten")
			}
		})
	}
}

// Whoever comes in whatever order: no more is remembered than there is room for, all
// agents that come have a part, the newest is there, and the order is that of time.
func TestSharesOfManyAgents(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	m := recent.New(began)
	for n := range 30_000 {
		i := issuance(n)
		i.Agent = fmt.Sprint(random.IntN(1 + random.IntN(1+n/20)))
		i.Cache = []string{"hit", "hit", "hit", "miss"}[random.IntN(4)]
		i.Decision = []string{recent.Allow, recent.Allow, recent.Deny, recent.Fail}[random.IntN(4)]
		if random.IntN(10) == 0 {
			i.Rule = strings.Repeat("x", random.IntN(20_000))
		}
		m.Add(i)
		if n%997 != 0 && n < 29_990 {
			continue
		}
		found, matching := m.Find(recent.Query{Limit: recent.MaxIssuances})
		held := m.Held()
		if matching != held.Issuances || matching > recent.MaxIssuances || matching > n+1 || held.Bytes > 1<<20 {
			t.Fatalf("after %d: got %d that match, %+v", n, matching, held)
		}
		if found[0].ID != i.ID {
			t.Fatalf("after %d: the newest is %d", n, found[0].Number)
		}
		for k := range found[1:] {
			if found[k].Number <= found[k+1].Number {
				t.Fatalf("after %d: %d before %d", n, found[k].Number, found[k+1].Number)
			}
		}
	}
}

// Package rules checks the alerts and the dashboard of the chart, with
// Prometheus's own parser and engine, against the metrics of a live broker.
package rules

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

const files = root + "/charts/credfree/files"

// target are the labels that a scrape adds.
var target = map[string]string{"namespace": "agents", "pod": "research-0", "container": "credfree", "job": "credfree", "instance": "10.0.0.1:7401"}

// elsewhere are metrics that are not the broker's, with their labels.
var elsewhere = map[string][]string{
	"kube_pod_init_container_status_restarts_total": {"namespace", "pod", "container"},
	"kube_pod_container_status_restarts_total":      {"namespace", "pod", "container"},
}

// rule is one of the file.
type rule = rulefmt.Rule

// expression is one of a file.
type expression struct{ where, text string }

func parsed(t *testing.T, text string) parser.Expr {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return expr
}

// alerts are the rules, as Prometheus reads them.
func alerts(t *testing.T) []rulefmt.Rule {
	t.Helper()
	var rules []rulefmt.Rule
	for _, name := range []string{"rules.yaml", "webhook-rules.yaml"} {
		text, err := os.ReadFile(filepath.Join(files, name))
		if err != nil {
			t.Fatal(err)
		}
		groups, problems := rulefmt.Parse(text, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
		for _, problem := range problems {
			t.Error(problem)
		}
		if groups == nil {
			t.FailNow()
		}
		for _, group := range groups.Groups {
			rules = append(rules, group.Rules...)
		}
	}
	return rules
}

// dashboard returns the expressions of the panels and of the variables.
func dashboard(t *testing.T) []expression {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(files, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		SchemaVersion int
		Panels        []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.SchemaVersion < 41 || len(d.Templating.List) == 0 || d.Templating.List[0].Type != "datasource" {
		t.Errorf("schema version %d, variables %v", d.SchemaVersion, d.Templating.List)
	}
	var expressions []expression
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q has no id or title of its own, or stands over the edge", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("panel %q stands over %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			expressions = append(expressions, expression{p.Title, concrete(target.Expr)})
		}
	}
	values := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, v := range d.Templating.List[1:] {
		m := values.FindStringSubmatch(v.Definition)
		if m == nil {
			t.Fatalf("variable %s: %s", v.Name, v.Definition)
		}
		expressions = append(expressions, expression{"variable " + v.Name, "count by (" + m[2] + ") (" + concrete(m[1]) + ")"})
	}
	return expressions
}

// concrete puts values in the place of Grafana's variables.
func concrete(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$__range", "30m", "$namespace", ".*", "$agent", ".*").Replace(expr)
}

// series are those of a scrape: each metric with its labels.
func series(t *testing.T, text string) (byName map[string]map[string]bool, load string) {
	t.Helper()
	byName = map[string]map[string]bool{}
	p, err := textparse.New([]byte(text), "text/plain", labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kind := ""
	out := bytes.NewBufferString("load 1m\n")
	for {
		entry, err := p.Next()
		if err != nil {
			break // io.EOF
		}
		switch entry {
		case textparse.EntryType:
			_, k := p.Type()
			kind = string(k)
		case textparse.EntrySeries:
			var ls labels.Labels
			p.Labels(&ls)
			_, _, value := p.Series()
			name := ls.Get("__name__")
			known := byName[name]
			if known == nil {
				known = maps.Collect(maps.All(map[string]bool{}))
				byName[name] = known
			}
			b := labels.NewBuilder(ls)
			for label, value := range target {
				known[label] = true
				b.Set(label, value)
			}
			ls.Range(func(l labels.Label) { known[l.Name] = true })
			// Counters grow by what they are each minute; gauges stay.
			growth := 0.0
			if kind == "counter" || kind == "histogram" {
				growth = value
			}
			fmt.Fprintf(out, "  %s %g+%gx60\n", b.Labels(), value, growth)
		}
	}
	return byName, out.String()
}

// Every metric and every label that an expression names is there.
func TestNamesAndLabelsAreThere(t *testing.T) {
	known, _ := series(t, live(t)+own(liveWebhook(t)))
	for name, its := range elsewhere {
		known[name] = map[string]bool{}
		for _, label := range its {
			known[name][label] = true
		}
	}
	all := dashboard(t)
	for _, rule := range alerts(t) {
		all = append(all, expression{rule.Alert, rule.Expr})
	}
	if len(all) < 40 {
		t.Fatalf("got %d expressions", len(all))
	}
	used := map[string]bool{}
	for _, e := range all {
		parser.Inspect(parsed(t, e.text), func(node parser.Node, _ []parser.Node) error {
			switch n := node.(type) {
			case *parser.VectorSelector:
				its, ok := known[n.Name]
				if !ok {
					t.Errorf("%s: there is no metric %s", e.where, n.Name)
				}
				used[n.Name] = true
				for _, m := range n.LabelMatchers {
					if m.Name != "__name__" && !its[m.Name] {
						t.Errorf("%s: %s has no label %s", e.where, n.Name, m.Name)
					}
				}
			case *parser.AggregateExpr:
				for _, name := range n.Grouping {
					if !someSelectorHas(known, n.Expr, name) {
						t.Errorf("%s: nothing in %s has the label %s", e.where, n.Expr, name)
					}
				}
			}
			return nil
		})
	}
	// What operators are not shown is of no use to them.
	for name := range known {
		base := strings.NewReplacer("_bucket", "", "_sum", "", "_count", "").Replace(name)
		if strings.HasPrefix(name, "credfree_") && !used[name] && !used[base+"_bucket"] && !used[base+"_count"] &&
			!slices.Contains([]string{"credfree_cache_size_bytes", "credfree_cache_in_flight", "credfree_policy_last_success_timestamp_seconds"}, name) {
			t.Errorf("neither the alerts nor the dashboard use %s", name)
		}
	}
}

func someSelectorHas(known map[string]map[string]bool, in parser.Expr, label string) bool {
	found := false
	parser.Inspect(in, func(node parser.Node, _ []parser.Node) error {
		if n, ok := node.(*parser.VectorSelector); ok && known[n.Name][label] {
			found = true
		}
		return nil
	})
	return found
}

func engine(t *testing.T) *promql.Engine {
	t.Helper()
	return promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
}

// Every expression has an answer, of the metrics of a live broker; of an alert,
// what it compares.
func TestExpressionsHaveAnAnswer(t *testing.T) {
	names, load := series(t, live(t)+own(liveWebhook(t)))
	if len(names) < 40 {
		t.Fatalf("got series %v", slices.Sorted(maps.Keys(names)))
	}
	storage := promqltest.LoadedStorage(t, load)
	defer storage.Close()
	e := engine(t)
	ask := func(where, text string) int {
		q, err := e.NewInstantQuery(t.Context(), storage, nil, text, time.Unix(0, 0).Add(50*time.Minute))
		if err != nil {
			t.Errorf("%s: %v", where, err)
			return 0
		}
		defer q.Close()
		result := q.Exec(context.Background())
		if result.Err != nil {
			t.Errorf("%s: %v", where, result.Err)
			return 0
		}
		vector, _ := result.Vector()
		return len(vector)
	}
	for _, x := range dashboard(t) {
		if ask(x.where, x.text) == 0 {
			t.Errorf("%s shows nothing: %s", x.where, x.text)
		}
	}
	for _, rule := range alerts(t) {
		for _, side := range compared(parsed(t, rule.Expr)) {
			if ask(rule.Alert, side.String()) == 0 && !fromElsewhere(side.String()) {
				t.Errorf("%s compares nothing: %s", rule.Alert, side)
			}
		}
	}
}

// What was handed out is what was allowed, and no inspection.
func TestPanelsOfWhatWasHandedOut(t *testing.T) {
	const at = `credfree_token_requests_total{namespace="n",agent="a",`
	storage := promqltest.LoadedStorage(t, `load 1m
  `+at+`decision="allow",cache="hit",grant="client_credentials"} 0+60x60
  `+at+`decision="allow",cache="miss",grant="client_credentials"} 0+60x60
  `+at+`decision="error",cache="hit",grant="client_credentials"} 0+600x60
  `+at+`decision="allow",cache="",grant="inspection"} 0+600x60
`)
	defer storage.Close()
	want := map[string]float64{"Tokens handed out, by agent": 2, "Share of hits": .5}
	for _, x := range dashboard(t) {
		value, ok := want[x.where]
		if !ok {
			continue
		}
		delete(want, x.where)
		q, err := engine(t).NewInstantQuery(t.Context(), storage, nil, x.text, time.Unix(0, 0).Add(50*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		vector, err := q.Exec(t.Context()).Vector()
		if err != nil || len(vector) != 1 || vector[0].F != value {
			t.Errorf("%s: got %v, %v, want %g", x.where, vector, err, value)
		}
		q.Close()
	}
	if len(want) > 0 {
		t.Errorf("there are no panels of %v", want)
	}
}

func fromElsewhere(expr string) bool {
	for name := range elsewhere {
		if strings.Contains(expr, name) {
			return true
		}
	}
	return false
}

// compared are the sides of an expression that are compared with a number.
func compared(e parser.Expr) []parser.Expr {
	switch n := e.(type) {
	case *parser.ParenExpr:
		return compared(n.Expr)
	case *parser.Call:
		if n.Func.Name == "absent" {
			return []parser.Expr{n.Args[0]}
		}
	case *parser.BinaryExpr:
		if n.Op.IsSetOperator() {
			return append(compared(n.LHS), compared(n.RHS)...)
		}
		if n.Op.IsComparisonOperator() {
			return []parser.Expr{n.LHS}
		}
	}
	return []parser.Expr{e}
}

package rules

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

// promtool runs it, which ./run puts into the path, and returns what it prints.
func promtool(t *testing.T, stdin string, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &problems
	if err := cmd.Run(); err != nil {
		t.Errorf("promtool %s: %v\n%s%s", strings.Join(args, " "), err, &out, &problems)
	}
	return out.String(), problems.String()
}

// rendered writes the rules as the chart renders them into a folder.
func rendered(t *testing.T, folder string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "run", "./rules")
	cmd.Dir, cmd.Stderr = "../chart", os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "rules.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The rules are without fault, fire, and say what their templates are meant to.
func TestPromtoolTakesTheRules(t *testing.T) {
	folder := t.TempDir()
	file := rendered(t, folder)
	if out, problems := promtool(t, "", "check", "rules", "--lint=all", "--lint-fatal", file); !strings.Contains(out, "SUCCESS: 19 rules found") || problems != "" {
		t.Errorf("got %s%s", out, problems)
	}
	tests := filepath.Join(folder, "alerts.json") // which is YAML
	if err := os.WriteFile(tests, unitTests(t, file), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, problems := promtool(t, "", "test", "rules", tests); !strings.Contains(out, "SUCCESS") || problems != "" {
		t.Errorf("got %s%s", out, problems)
	}
}

// unitTests writes the cases in which an alert fires as promtool reads them, with
// the words that an operator then gets.
func unitTests(t *testing.T, file string) []byte {
	t.Helper()
	// What the alerts say of the value.
	said := map[string]string{
		"CredfreeDenials": "10%", "CredfreeIssuancesFail": "20%", "CredfreeThrottled": "1", "CredfreeSlowExchanges": "4.972s", "CredfreeTokenAboutToLapse": "1m 20s",
		"CredfreeWorkloadTokenStale": "0s", "CredfreeAgentExpires": "6d 23h 0m 0s", "CredfreeRestarts": "60", "CredfreeWebhookCertificate": "1d 0h 0m 0s",
	}
	value := regexp.MustCompile(`{{ \$value( \| \w+)? }}`)
	label := regexp.MustCompile(`{{ \$labels\.(\w+) }}`)
	var tests []map[string]any
	for _, r := range alerts(t) {
		c := cases()[r.Alert][0]
		fires := firing(t, r, c.series)
		if len(fires) != 1 {
			t.Fatalf("%s, %s: %d fire", r.Alert, c.name, len(fires))
		}
		if templated := value.MatchString(r.Annotations["summary"] + r.Annotations["description"]); templated != (said[r.Alert] != "") {
			t.Errorf("%s speaks of its value: %t", r.Alert, templated)
		}
		annotations := map[string]string{}
		for name, text := range r.Annotations {
			text = value.ReplaceAllLiteralString(text, said[r.Alert])
			annotations[name] = label.ReplaceAllStringFunc(text, func(its string) string { return fires[0].Get(label.FindStringSubmatch(its)[1]) })
		}
		its := maps.Clone(r.Labels)
		fires[0].Range(func(l labels.Label) { its[l.Name] = l.Value })
		var input []map[string]string
		for line := range strings.Lines(c.series) {
			at := strings.LastIndex(line, "} ") + 1
			input = append(input, map[string]string{"series": line[:at], "values": strings.TrimSpace(line[at:])})
		}
		tests = append(tests, map[string]any{
			"name": r.Alert, "interval": "1m", "input_series": input,
			"alert_rule_test": []any{map[string]any{"eval_time": "60m", "alertname": r.Alert, "exp_alerts": []any{map[string]any{"exp_labels": its, "exp_annotations": annotations}}}},
		})
	}
	text, err := json.Marshal(map[string]any{"rule_files": []string{file}, "evaluation_interval": "1m", "tests": tests})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What a broker and the webhook answer at /metrics is as Prometheus wants it:
// names, units, help.
func TestPromtoolTakesTheMetrics(t *testing.T) {
	for of, text := range map[string]string{"broker": live(t), "webhook": liveWebhook(t)} {
		if out, problems := promtool(t, text, "check", "metrics"); out+problems != "" {
			t.Errorf("%s: got %s%s", of, out, problems)
		}
	}
}

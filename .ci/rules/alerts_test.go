package rules

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// firings are, of each alert, metrics of an hour, and how often it fires at its end.
type firings map[string][]struct {
	name, series string
	fires        int
}

func cases() firings {
	const at = `{namespace="agents",pod="research-0"`
	return firings{
		"CredfreeDenials": {
			{"a tenth is denied", `credfree_token_requests_total` + at + `,agent="a",decision="deny",reason="scope_not_allowed"} 0+1x60
credfree_token_requests_total` + at + `,agent="a",decision="allow",reason=""} 0+9x60`, 1},
			{"one in a hundred", `credfree_token_requests_total` + at + `,agent="a",decision="deny",reason="scope_not_allowed"} 0+1x60
credfree_token_requests_total` + at + `,agent="a",decision="allow",reason=""} 0+99x60`, 0},
			{"another agent's", `credfree_token_requests_total` + at + `,agent="a",decision="deny",reason="agent_expired"} 0+1x60
credfree_token_requests_total` + at + `,agent="b",decision="allow",reason=""} 0+99x60`, 1},
			{"for five minutes", `credfree_token_requests_total` + at + `,agent="a",decision="deny",reason="scope_not_allowed"} 0x55 1+1x5
credfree_token_requests_total` + at + `,agent="a",decision="allow",reason=""} 0+9x60`, 0},
		},
		"CredfreeIssuancesFail": {
			{"Entra rejects", `credfree_token_requests_total` + at + `,decision="error",reason="entra_rejected"} 0+2x60
credfree_token_requests_total` + at + `,decision="allow",reason=""} 0+8x60`, 1},
			{"callers leave", `credfree_token_requests_total` + at + `,decision="error",reason="caller_gone"} 0+5x60
credfree_token_requests_total` + at + `,decision="allow",reason=""} 0+5x60`, 0},
			{"one in twenty", `credfree_token_requests_total` + at + `,decision="error",reason="timeout"} 0+1x60
credfree_token_requests_total` + at + `,decision="allow",reason=""} 0+19x60`, 0},
		},
		"CredfreeThrottled": {
			{"held", `credfree_exchange_holds` + at + `,kind="throttled"} 1x60`, 1},
			{"of another kind", `credfree_exchange_holds` + at + `,kind="breaker"} 1x60`, 0},
			{"now and then", `credfree_exchange_holds` + at + `,kind="throttled"} 0 1 0 1 0 1 0x50 0 1 0 1`, 0},
			{"again and again, and over at every other scrape", `credfree_exchange_holds` + at + `,kind="throttled"} 0x40 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1`, 1},
		},
		"CredfreeBreakerOpen": {
			{"held", `credfree_exchange_holds` + at + `,kind="breaker"} 1x60`, 1},
			{"not", `credfree_exchange_holds` + at + `,kind="breaker"} 0x60`, 0},
			{"again and again, and over at every other scrape", `credfree_exchange_holds` + at + `,kind="breaker"} 0x40 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1`, 1},
			{"and over at each scrape, since agents seldom ask", `credfree_exchange_holds` + at + `,kind="breaker"} 0x60
credfree_exchange_duration_seconds_count` + at + `,leg="resource",reason="entra_unavailable"} 0 0 3 3 6 6 9 9 12 12 15 15x35 18 18 21 21 24 24 27 27 30 30 33 33 36 36
credfree_exchange_duration_seconds_count` + at + `,leg="resource",reason=""} 7x60`, 1},
			{"once", `credfree_exchange_holds` + at + `,kind="breaker"} 0x55 1 0 0 0 0
credfree_exchange_duration_seconds_count` + at + `,leg="resource",reason="timeout"} 0x55 3x5`, 0},
			{"in between Entra answers", `credfree_exchange_holds` + at + `,kind="breaker"} 0x60
credfree_exchange_duration_seconds_count` + at + `,leg="resource",reason="timeout"} 0+1x60
credfree_exchange_duration_seconds_count` + at + `,leg="resource",reason="entra_rejected"} 0+1x60`, 0},
		},
		"CredfreeSlowExchanges": {
			{"five seconds", `credfree_token_duration_seconds_bucket` + at + `,cache="miss",decision="allow",le="2.5"} 0+1x60
credfree_token_duration_seconds_bucket` + at + `,cache="miss",decision="allow",le="5"} 0+9x60
credfree_token_duration_seconds_bucket` + at + `,cache="miss",decision="allow",le="+Inf"} 0+9x60`, 1},
			{"half a second", `credfree_token_duration_seconds_bucket` + at + `,cache="miss",decision="allow",le="0.5"} 0+9x60
credfree_token_duration_seconds_bucket` + at + `,cache="miss",decision="allow",le="+Inf"} 0+9x60`, 0},
		},
		"CredfreeTokenAboutToLapse": {
			{"and it cannot be refreshed", `credfree_token_time_to_expiry_seconds` + at + `,agent="a"} 3600-60x57 100 90 80
credfree_token_refreshes_total` + at + `,agent="a",reason="entra_rejected"} 0+1x60`, 1},
			{"and nobody asks", `credfree_token_time_to_expiry_seconds` + at + `,agent="a"} 200x60
credfree_token_refreshes_total` + at + `,agent="a",reason="entra_rejected"} 5x60`, 0},
			{"and it is refreshed", `credfree_token_time_to_expiry_seconds` + at + `,agent="a"} 200x60
credfree_token_refreshes_total` + at + `,agent="a",reason=""} 0+1x60`, 0},
			{"another agent's cannot", `credfree_token_time_to_expiry_seconds` + at + `,agent="a"} 200x60
credfree_token_refreshes_total` + at + `,agent="b",reason="timeout"} 0+1x60`, 0},
		},
		"CredfreeWorkloadTokenStale": {
			{"it runs out", `credfree_workload_time_to_expiry_seconds` + at + `,source="pod",kind="file"} 3600-60x60`, 1},
			{"it is fresh", `credfree_workload_time_to_expiry_seconds` + at + `,source="pod",kind="file"} 3000x60`, 0},
			{"it is one that is asked for", `credfree_workload_time_to_expiry_seconds` + at + `,source="github",kind="asked"} -100x60`, 0},
		},
		"CredfreePolicyNotInForce": {
			{"it is not", `credfree_policy_in_force` + at + `} 0x60`, 1},
			{"it is", `credfree_policy_in_force` + at + `} 1x60`, 0},
			{"it is being written", `credfree_policy_in_force` + at + `} 1x58 0 0`, 0},
		},
		"CredfreeAuditFails": {
			{"the first ever", `credfree_audit_failures_total` + at + `} 0x58 1 1`, 1},
			{"long ago", `credfree_audit_failures_total` + at + `} 0x10 7x49`, 0},
			{"nobody asks", `credfree_audit_writable` + at + `} 0x60`, 1},
			{"it is well", `credfree_audit_writable` + at + `} 1x60`, 0},
		},
		"CredfreeConnectionsRefused": {
			{"one", `credfree_connections_refused_total` + at + `} 0x55 1x5`, 1},
			{"none", `credfree_connections_refused_total` + at + `} 0x60`, 0},
			{"long ago", `credfree_connections_refused_total` + at + `} 0x10 7x49`, 0},
		},
		"CredfreeAuditBestEffort": {
			{"it is", `credfree_audit_required` + at + `} 0x60`, 1},
			{"it is not", `credfree_audit_required` + at + `} 1x60`, 0},
		},
		"CredfreeTelemetryLost": {
			{"dropped", `credfree_telemetry_spans_total` + at + `,outcome="dropped"} 0+5x60`, 1},
			{"exported", `credfree_telemetry_spans_total` + at + `,outcome="exported"} 0+5x60`, 0},
			{"metrics", `credfree_telemetry_export_failures_total` + at + `,signal="metrics"} 0+1x60`, 1},
			{"audit records", `credfree_audit_exports_total` + at + `,outcome="dropped"} 0+5x60`, 1},
			{"none of them", `credfree_audit_exports_total` + at + `,outcome="exported"} 0+5x60`, 0},
		},
		"CredfreeAgentExpires": {
			{"next week", `credfree_agent_time_to_expiry_seconds` + at + `,agent="a"} 604800-60x61`, 1},
			{"it has", `credfree_agent_time_to_expiry_seconds` + at + `,agent="a"} -60x61`, 1},
			{"next month", `credfree_agent_time_to_expiry_seconds` + at + `,agent="a"} 2592000-60x61`, 0},
		},
		"CredfreeUserKeysUnavailable": {
			{"none can be fetched", `credfree_user_key_fetches_total` + at + `,outcome="failed"} 0+1x60
credfree_user_key_fetches_total` + at + `,outcome="done"} 3x60`, 1},
			{"some can", `credfree_user_key_fetches_total` + at + `,outcome="failed"} 0+1x60
credfree_user_key_fetches_total` + at + `,outcome="done"} 0+1x60`, 0},
		},
		"CredfreeRestarts": {
			{"of a native sidecar", `kube_pod_init_container_status_restarts_total` + at + `,container="credfree"} 0+1x60`, 1},
			{"of a container", `kube_pod_container_status_restarts_total` + at + `,container="credfree"} 0+1x60`, 1},
			{"of another", `kube_pod_container_status_restarts_total` + at + `,container="agent"} 0+1x60`, 0},
			{"three", `kube_pod_container_status_restarts_total` + at + `,container="credfree"} 0x20 1x20 3x20`, 0},
		},
		"CredfreeWebhookAway": {
			{"none is scraped", `up` + at + `} 1x60`, 1},
			{"one is", `credfree_webhook_certificate_expires_in_seconds` + at + `} 86400x60`, 0},
			{"one was, three minutes ago", `credfree_webhook_certificate_expires_in_seconds` + at + `} 86400x56 stale`, 0},
		},
		"CredfreeWebhookCertificate": {
			{"tomorrow", `credfree_webhook_certificate_expires_in_seconds` + at + `} 86400x60`, 1},
			{"next month", `credfree_webhook_certificate_expires_in_seconds` + at + `} 2592000x60`, 0},
			{"of another replica", `credfree_webhook_certificate_expires_in_seconds` + at + `} 86400x60
credfree_webhook_certificate_expires_in_seconds{namespace="agents",pod="research-1"} 2592000x60`, 1},
		},
		"CredfreeWebhookFails": {
			{"service accounts cannot be read", `credfree_webhook_admissions_total` + at + `,outcome="failed"} 0+1x60`, 1},
			{"pods are refused", `credfree_webhook_admissions_total` + at + `,outcome="refused"} 0+1x60`, 0},
		},
		"CredfreePodsRefused": {
			{"again and again", `credfree_webhook_admissions_total` + at + `,outcome="refused"} 0+1x60`, 1},
			{"once", `credfree_webhook_admissions_total` + at + `,outcome="refused"} 0x55 1x5`, 0},
		},
	}
}

// Each alert fires when it should, and not when it should not, after an hour.
func TestAlerts(t *testing.T) {
	for alert, cases := range cases() {
		rules := alerts(t)
		i := slices.IndexFunc(rules, func(r rule) bool { return r.Alert == alert })
		if i < 0 {
			t.Errorf("there is no alert %s", alert)
			continue
		}
		for _, c := range cases {
			if got := len(firing(t, rules[i], c.series)); got != c.fires {
				t.Errorf("%s, %s: %d fire, want %d", alert, c.name, got, c.fires)
			}
		}
	}
	for _, r := range alerts(t) {
		if len(cases()[r.Alert]) == 0 {
			t.Errorf("nobody knows when %s fires", r.Alert)
		}
		for _, part := range []string{r.Annotations["summary"], r.Annotations["description"], r.Labels["severity"]} {
			if part == "" {
				t.Errorf("%s says too little", r.Alert)
			}
		}
	}
}

// firing are the labels of what fires after an hour: what the expression held for
// as long as the rule wants.
func firing(t *testing.T, r rule, series string) []labels.Labels {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 1m\n  "+strings.ReplaceAll(series, "\n", "\n  ")+"\n")
	defer storage.Close()
	e := engine(t)
	held := map[string]int{}
	var fires []labels.Labels
	minutes := int(time.Duration(r.For)/time.Minute) + 1
	for back := range minutes {
		q, err := e.NewInstantQuery(t.Context(), storage, nil, r.Expr, time.Unix(0, 0).Add(time.Duration(60-back)*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		vector, err := q.Exec(context.Background()).Vector()
		if err != nil {
			t.Fatalf("%s: %v", r.Alert, err)
		}
		for _, sample := range vector {
			its := sample.Metric.DropMetricName()
			if held[its.String()]++; held[its.String()] == minutes {
				fires = append(fires, its.Copy())
			}
		}
		q.Close()
	}
	return fires
}

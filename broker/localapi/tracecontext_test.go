package localapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/credfree/credfree/broker"
)

func TestSaid(t *testing.T) {
	asst := broker.Said{AgentID: "asst_7"}
	for name, test := range map[string]struct {
		headers []string
		want    broker.Said
	}{
		"all three": {[]string{"gen_ai.agent.id=asst_7,gen_ai.agent.name=Research%20assistant , gen_ai.conversation.id=c1"},
			broker.Said{AgentID: "asst_7", AgentName: "Research assistant", Conversation: "c1"}},
		"others beside":         {[]string{"user.email=ada%40example.com,gen_ai.agent.id=asst_7,gen_ai.agent.description=x"}, asst},
		"properties":            {[]string{"gen_ai.agent.id = asst_7 ;ttl=3;gen_ai.agent.name=x"}, asst},
		"two headers":           {[]string{"gen_ai.agent.id=asst_7", "gen_ai.agent.name=x"}, broker.Said{AgentID: "asst_7", AgentName: "x"}},
		"said twice":            {[]string{"gen_ai.agent.id=asst_7,gen_ai.agent.id=asst_8"}, broker.Said{}},
		"no escape":             {[]string{"gen_ai.agent.id=%zz"}, broker.Said{}},
		"no value":              {[]string{"gen_ai.agent.id,,=,;,=x"}, broker.Said{}},
		"another case":          {[]string{"GEN_AI.AGENT.ID=asst_7"}, broker.Said{}},
		"63 others":             {[]string{strings.Repeat("a=b,", 63) + "gen_ai.agent.id=asst_7"}, asst},
		"64 others":             {[]string{strings.Repeat("a=b,", 64) + "gen_ai.agent.id=asst_7"}, broker.Said{}},
		"8192 bytes":            {[]string{"a=" + strings.Repeat("b", 8192-25) + ",gen_ai.agent.id=asst_7"}, asst},
		"8193 bytes":            {[]string{"a=" + strings.Repeat("b", 8193-25) + ",gen_ai.agent.id=asst_7"}, broker.Said{}},
		"a value that is large": {[]string{"gen_ai.agent.id=" + strings.Repeat("a", 385)}, broker.Said{}},
		"none":                  {nil, broker.Said{}},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if test.headers != nil {
			r.Header["Baggage"] = test.headers
		}
		if got := said(r); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

const aTrace = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"

// A trace that makes no sense is as good as none, and none of it breaks a request.
func TestTraceContext(t *testing.T) {
	for name, test := range map[string]struct {
		traceparent, tracestate string
		want                    bool
	}{
		"good":                   {"00-" + aTrace + "-01", "a=b", true},
		"not sampled":            {"00-" + aTrace + "-00", "", true},
		"a later version":        {"cc-" + aTrace + "-01-what-the-future-will-be-like", "", true},
		"version ff":             {"ff-" + aTrace + "-01", "", false},
		"no trace":               {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "", false},
		"no parent":              {"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "", false},
		"upper case":             {"00-" + strings.ToUpper(aTrace) + "-01", "", false},
		"cut off":                {"00-" + aTrace, "", false},
		"more than there is":     {"00-" + aTrace + "-01-more", "", false},
		"huge":                   {strings.Repeat("00-", 8<<10), "", false},
		"empty":                  {"", "", false},
		"many members of state":  {"00-" + aTrace + "-01", strings.Repeat("a=b,", 4<<10), true},
		"a state that is long":   {"00-" + aTrace + "-01", "a=" + strings.Repeat("b", 200) + ",c=" + strings.Repeat("d", 200) + ",e=" + strings.Repeat("f", 200), true},
		"a state within bounds":  {"00-" + aTrace + "-01", "a=" + strings.Repeat("b", 200) + ",c=" + strings.Repeat("d", 200), true},
		"state that is no state": {"00-" + aTrace + "-01", "\x80=,=;", true},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Traceparent"], r.Header["Tracestate"] = []string{test.traceparent}, []string{test.tracestate}
		sc := trace.SpanContextFromContext(traceContext(r))
		if sc.IsValid() != test.want || sc.IsValid() && !sc.IsRemote() {
			t.Errorf("%s: got %v, valid %t, want %t", name, sc, sc.IsValid(), test.want)
		}
		if kept := sc.TraceState().String(); len(kept) > 512 || (kept != "") != (name == "good" || name == "a state within bounds") {
			t.Errorf("%s: the state %q was kept", name, kept)
		}
	}
}

// Whatever context comes with a request: no panic, a trace that is valid or none,
// and of the baggage three values of a bounded size.
func FuzzTraceContext(f *testing.F) {
	for _, seed := range [][3]string{{"00-" + aTrace + "-01", "a=b", "gen_ai.agent.id=x"}, {"cc-" + aTrace + "-01-x", "a=b,c=d", "a=b;c=d,gen_ai.conversation.id=%41"},
		{"", "", ""}, {"00-0", "=", "%,;=,"}, {"ff", strings.Repeat("a=b,", 40), strings.Repeat("gen_ai.agent.name=a,", 3)}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, traceparent, tracestate, baggage string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Traceparent"], r.Header["Tracestate"], r.Header["Baggage"] = []string{traceparent}, []string{tracestate}, []string{baggage}
		if sc := trace.SpanContextFromContext(traceContext(r)); sc.HasTraceID() != sc.HasSpanID() || sc.IsValid() && (!sc.IsRemote() || sc.TraceState().Len() > 32) {
			t.Errorf("got %v", sc)
		}
		got := said(r)
		for _, value := range []string{got.AgentID, got.AgentName, got.Conversation} {
			if len(value) > maxBaggageValue || value != "" && !strings.Contains(baggage, "gen_ai.") {
				t.Errorf("got %q of %q", value, baggage)
			}
		}
	})
}

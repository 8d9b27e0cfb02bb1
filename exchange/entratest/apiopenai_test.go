package entratest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	openAIDefault = "https://cognitiveservices.azure.com/.default"
	completions   = "/openai/v1/chat/completions"
	sayHello      = `{"model":"m","messages":[{"role":"system","content":"x"},{"role":"user","content":"hello there"}]`
)

// Only a token for the resource is a key to it.
func TestAPIOpenAIValidatesTokens(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		token  string
		status int
	}{
		"Azure OpenAI's": {w.appToken(t, openAIDefault), 200},
		"Foundry's":      {w.appToken(t, "https://ai.azure.com/.default"), 200},
		"Graph's":        {w.appToken(t, graphDefault), 401},
		"none":           {"", 401},
	} {
		for _, target := range []string{completions, "/openai/v1/responses", "/openai/deployments/m/chat/completions?api-version=2024-10-21"} {
			if a := w.callAPI(t, "POST", target, c.token, sayHello+`,"input":"hello"}`); a.status != c.status {
				t.Errorf("%s: %s: got %d %s, want %d", name, target, a.status, a.raw, c.status)
			}
		}
	}
	r := httptest.NewRequest(http.MethodPost, "https://api.example"+completions, strings.NewReader(sayHello+"}"))
	r.Header.Set("Api-Key", "0123456789abcdef")
	rec := httptest.NewRecorder()
	if w.server.API().ServeHTTP(rec, r); rec.Code != 401 {
		t.Errorf("with an api-key alone: got %d, want 401", rec.Code)
	}
}

func TestAPIOpenAIAnswers(t *testing.T) {
	w := newWorld(t)
	token := w.appToken(t, openAIDefault)
	const tools = `,"tools":[{"type":"function","function":{"name":"weather","parameters":{"required":["city"]}}}]`
	for name, c := range map[string]struct {
		target, body string
		status       int
		want         string // in the answer
	}{
		"a chat":            {completions, sayHello + "}", 200, `"content":"You said: hello there"`},
		"parts":             {completions, `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}`, 200, "You said: ab"},
		"a tool":            {completions, sayHello + tools + "}", 200, `"function":{"arguments":"{\"city\":\"hello there\"}","name":"weather"}`},
		"a tool's answer":   {completions, `{"model":"m","messages":[{"role":"tool","content":"rain"}]` + tools + "}", 200, "The tool said: rain"},
		"a deployment":      {"/openai/deployments/d/chat/completions?api-version=1", sayHello + "}", 200, `"model":"d"`},
		"no version":        {"/openai/deployments/d/chat/completions", sayHello + "}", 404, "Resource not found"},
		"a response":        {"/openai/v1/responses", `{"model":"m","input":"hi"}`, 200, `"text":"You said: hi"`},
		"a streamed one":    {"/openai/v1/responses", `{"model":"m","input":"hi","stream":true}`, 200, "event: response.completed\n"},
		"a quota":           {completions, strings.Replace(sayHello, `"m"`, `"busy"`, 1) + "}", 429, "RateLimitReached"},
		"nothing said":      {completions, `{"model":"m"}`, 400, "invalid_request_error"},
		"no model":          {"/openai/v1/responses", `{"input":"m"}`, 400, "invalid_request_error"},
		"not JSON":          {completions, "hello", 400, "not the JSON"},
		"streamed, no tool": {completions, sayHello + `,"stream":true}`, 200, "data: [DONE]\n\n"},
	} {
		a := w.callAPI(t, "POST", c.target, token, c.body)
		if a.status != c.status || !strings.Contains(string(a.raw), c.want) {
			t.Errorf("%s: got %d %s, want %d and %q", name, a.status, a.raw, c.status, c.want)
		}
		if retry := a.header.Get("Retry-After"); (retry != "") != (c.status == 429) {
			t.Errorf("%s: got Retry-After %q", name, retry)
		}
	}
}

// The pieces of a stream are the whole, and its usage comes last.
func TestAPIOpenAIStreams(t *testing.T) {
	w := newWorld(t)
	a := w.callAPI(t, "POST", completions, w.appToken(t, openAIDefault), sayHello+`,"stream":true,"stream_options":{"include_usage":true}}`)
	if kind := a.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		t.Errorf("got %q, want events", kind)
	}
	var pieces, finishes []string
	usage := 0
	for event := range strings.SplitSeq(strings.TrimSuffix(string(a.raw), "data: [DONE]\n\n"), "\n\n") {
		if event == "" {
			continue
		}
		var chunk struct {
			Choices []struct {
				Delta  struct{ Content string }
				Finish string `json:"finish_reason"`
			}
			Usage struct {
				Total int `json:"total_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(event, "data: ")), &chunk); err != nil {
			t.Fatalf("%q: %v", event, err)
		}
		for _, choice := range chunk.Choices {
			pieces, finishes = append(pieces, choice.Delta.Content), append(finishes, choice.Finish)
		}
		usage = chunk.Usage.Total
	}
	if diff := cmp.Diff([]string{"", "You ", "said: ", "hello ", "there", ""}, pieces); diff != "" {
		t.Errorf("pieces (-want +got):\n%s", diff)
	}
	if finishes[len(finishes)-1] != "stop" || usage == 0 {
		t.Errorf("got finish %q and usage %d, want stop and some", finishes, usage)
	}
}

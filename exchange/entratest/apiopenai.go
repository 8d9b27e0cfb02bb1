package entratest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	cognitiveServicesClientID = "7d312290-28c8-473c-a0ed-8e53749b6d6d"
	foundryClientID           = "18a66f5f-dbdf-4c17-9dd7-1634712a9cbe"

	maxPrompt    = 1 << 20
	wordInterval = 20 * time.Millisecond

	// busyModel is a deployment that is always over its quota.
	busyModel = "busy"
)

// openAI registers the inference API of Azure OpenAI, as far as a client of it
// can tell a model that repeats what it hears from another. It takes tokens
// only: a resource whose keys are disabled, as a deployment without credentials has it.
func (a api) openAI(mux *http.ServeMux) {
	serve := func(answer func(w http.ResponseWriter, r *http.Request, p prompt)) http.Handler {
		return a.authorized(func(w http.ResponseWriter, r *http.Request, _ caller) {
			if p, ok := readPrompt(w, r); ok {
				answer(w, r, p)
			}
		}, cognitiveServicesClientID, foundryClientID)
	}
	mux.Handle("POST /openai/deployments/{deployment}/chat/completions", serve(a.chatCompletion))
	mux.Handle("POST /openai/v1/chat/completions", serve(a.chatCompletion))
	mux.Handle("POST /openai/v1/responses", serve(a.response))
}

// prompt is what is read of a request for an answer of a model.
type prompt struct {
	Model         string
	Messages      []message // of a chat completion
	Input         string    // of a response
	Stream        bool
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Tools []struct {
		Function struct {
			Name       string
			Parameters struct{ Required []string }
		}
	}
}

type message struct {
	Role    string
	Content json.RawMessage // a string, or parts with a text each
}

func (m message) text() string {
	var whole string
	if json.Unmarshal(m.Content, &whole) == nil {
		return whole
	}
	var parts []struct{ Text string }
	if json.Unmarshal(m.Content, &parts) != nil {
		return ""
	}
	for _, part := range parts {
		whole += part.Text
	}
	return whole
}

// readPrompt reads a request, or answers why it is none.
func readPrompt(w http.ResponseWriter, r *http.Request) (p prompt, ok bool) {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPrompt)).Decode(&p); err != nil {
		apiError(w, http.StatusBadRequest, "BadRequest", "The body is not the JSON of a prompt.")
		return p, false
	}
	if deployment := r.PathValue("deployment"); deployment != "" {
		if r.URL.Query().Get("api-version") == "" {
			apiError(w, http.StatusNotFound, "404", "Resource not found")
			return p, false
		}
		p.Model = deployment
	}
	switch {
	case p.Model == busyModel:
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Retry-After-Ms", "20")
		apiError(w, http.StatusTooManyRequests, "RateLimitReached", "Your requests to "+busyModel+" have exceeded the token rate limit of its deployment.")
		return p, false
	case p.Model == "" || len(p.Messages) == 0 && p.Input == "":
		apiError(w, http.StatusBadRequest, "invalid_request_error", "There is no model, or nothing to answer.")
		return p, false
	}
	return p, true
}

// answer is what the model says: what it heard last, word by word.
func (p prompt) answer() (words []string) {
	said := "You said: " + p.Input
	if len(p.Messages) > 0 {
		last := p.Messages[len(p.Messages)-1]
		said = "You said: " + last.text()
		if last.Role == "tool" {
			said = "The tool said: " + last.text()
		}
	}
	return strings.SplitAfter(said, " ")
}

// toolCall is the call of the first tool, with what was said for each argument
// it requires, or nil where the model has none or has called it.
func (p prompt) toolCall() map[string]any {
	if len(p.Tools) == 0 || len(p.Messages) == 0 || p.Messages[len(p.Messages)-1].Role == "tool" {
		return nil
	}
	function := p.Tools[0].Function
	arguments := map[string]string{}
	for _, name := range function.Parameters.Required {
		arguments[name] = p.Messages[len(p.Messages)-1].text()
	}
	text, err := json.Marshal(arguments)
	if err != nil {
		return nil // strings always are JSON
	}
	return map[string]any{"index": 0, "id": "call_1", "type": "function", "function": map[string]string{"name": function.Name, "arguments": string(text)}}
}

// chatCompletion answers as
// https://learn.microsoft.com/azure/ai-foundry/openai/reference describes.
func (a api) chatCompletion(w http.ResponseWriter, r *http.Request, p prompt) {
	words, call := p.answer(), p.toolCall()
	said, finish := map[string]any{"role": "assistant", "content": strings.Join(words, "")}, "stop"
	if call != nil {
		said, finish = map[string]any{"role": "assistant", "content": nil, "tool_calls": []any{call}}, "tool_calls"
	}
	usage := map[string]int{"prompt_tokens": len(words), "completion_tokens": len(words), "total_tokens": 2 * len(words)}
	doc := map[string]any{"id": "chatcmpl-1", "created": a.now().Unix(), "model": p.Model, "object": "chat.completion", "usage": usage,
		"choices": []any{map[string]any{"index": 0, "message": said, "finish_reason": finish}}}
	if !p.Stream {
		apiJSON(w, http.StatusOK, doc)
		return
	}
	doc["object"] = "chat.completion.chunk"
	delete(doc, "usage")
	events := newEvents(w, r)
	chunk := func(delta map[string]any, finish any) {
		doc["choices"] = []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}}
		events.send("", doc)
	}
	if call != nil {
		chunk(said, nil)
	} else {
		chunk(map[string]any{"role": "assistant", "content": ""}, nil)
		for _, word := range words {
			chunk(map[string]any{"content": word}, nil)
		}
	}
	chunk(map[string]any{}, finish)
	if p.StreamOptions.IncludeUsage {
		doc["choices"], doc["usage"] = []any{}, usage
		events.send("", doc)
	}
	events.write("data: [DONE]\n\n")
}

// response answers as the responses API does, of which it knows text alone.
func (a api) response(w http.ResponseWriter, r *http.Request, p prompt) {
	words := p.answer()
	item := func(status string, content ...any) map[string]any {
		return map[string]any{"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": append([]any{}, content...)}
	}
	text := func(s string) map[string]any {
		return map[string]any{"type": "output_text", "text": s, "annotations": []any{}}
	}
	whole := text(strings.Join(words, ""))
	doc := func(status string, output ...any) map[string]any {
		return map[string]any{"id": "resp_1", "object": "response", "created_at": a.now().Unix(), "model": p.Model, "status": status, "output": append([]any{}, output...),
			"usage": map[string]int{"input_tokens": len(words), "output_tokens": len(words), "total_tokens": 2 * len(words)}}
	}
	if !p.Stream {
		apiJSON(w, http.StatusOK, doc("completed", item("completed", whole)))
		return
	}
	events, number := newEvents(w, r), 0
	send := func(kind string, fields map[string]any) {
		fields["type"], fields["sequence_number"] = kind, number
		number++
		events.send(kind, fields)
	}
	part := func(fields map[string]any) map[string]any {
		fields["item_id"], fields["output_index"], fields["content_index"] = "msg_1", 0, 0
		return fields
	}
	send("response.created", map[string]any{"response": doc("in_progress")})
	send("response.output_item.added", map[string]any{"output_index": 0, "item": item("in_progress")})
	send("response.content_part.added", part(map[string]any{"part": text("")}))
	for _, word := range words {
		send("response.output_text.delta", part(map[string]any{"delta": word}))
	}
	send("response.output_text.done", part(map[string]any{"text": whole["text"]}))
	send("response.content_part.done", part(map[string]any{"part": whole}))
	send("response.output_item.done", map[string]any{"output_index": 0, "item": item("completed", whole)})
	send("response.completed", map[string]any{"response": doc("completed", item("completed", whole))})
}

// events is an answer in events, with a pause before each: what is between here
// and the client shows whether it waits for the end.
type events struct {
	w    http.ResponseWriter
	r    *http.Request
	gone bool // the client
}

func newEvents(w http.ResponseWriter, r *http.Request) *events {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	return &events{w: w, r: r}
}

func (e *events) send(name string, doc any) {
	data, err := json.Marshal(doc)
	if err != nil {
		data = []byte(strconv.Quote(err.Error()))
	}
	if name != "" {
		name = "event: " + name + "\n"
	}
	e.write(name + "data: " + string(data) + "\n\n")
}

func (e *events) write(text string) {
	if e.gone = e.gone || !sleep(e.r.Context(), wordInterval); e.gone {
		return
	}
	if _, err := fmt.Fprint(e.w, text); err != nil {
		e.gone = true
		return
	}
	_ = http.NewResponseController(e.w).Flush() // not every writer can, and none has to
}

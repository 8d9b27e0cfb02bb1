package secret_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/credfree/credfree/exchange/secret"
)

const canary = "eyJhbGciOiJSUzI1NiJ9.canary.signature"

type embedded struct {
	secret.Text
	Public string
}

type nested struct {
	hidden secret.Text
	Open   secret.Text
	deep   *nested
	list   []secret.Text
	table  map[string]secret.Text
	any    any
	inner  embedded
}

func everyNesting() map[string]any {
	text := secret.New(canary)
	leaf := nested{hidden: text, Open: text, list: []secret.Text{text}, table: map[string]secret.Text{"k": text}, any: text, inner: embedded{Text: text}}
	whole := nested{hidden: text, deep: &leaf, any: &leaf, inner: embedded{Text: text, Public: "p"}}
	return map[string]any{
		"text": text, "pointer": &text, "embedded": embedded{Text: text}, "struct": whole, "struct pointer": &whole,
		"slice": []any{text, leaf}, "map": map[string]any{"a": leaf}, "array": [2]nested{leaf, whole},
		"error": fmt.Errorf("wrapped %w", errors.New(fmt.Sprint(text))),
	}
}

func TestNoVerbPrintsTheText(t *testing.T) {
	verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%p", "%10.3s", "%-5v", "%U", "%c", "%e", "%b", "%T"}
	hexed := fmt.Sprintf("%x", canary)
	for name, value := range everyNesting() {
		for _, verb := range verbs {
			got := fmt.Sprintf(verb, value)
			if strings.Contains(got, canary) || strings.Contains(strings.ToLower(got), hexed) {
				t.Errorf("%s of %s prints the text: got %s", verb, name, got)
			}
		}
		if got := fmt.Sprint(value) + fmt.Sprintln(value); strings.Contains(got, canary) {
			t.Errorf("Sprint of %s prints the text: got %s", name, got)
		}
	}
}

func TestNoEncoderWritesTheText(t *testing.T) {
	for name, value := range everyNesting() {
		if out, err := json.Marshal(value); err == nil && bytes.Contains(out, []byte(canary)) {
			t.Errorf("json of %s: got %s", name, out)
		}
		if out, err := xml.Marshal(value); err == nil && bytes.Contains(out, []byte(canary)) {
			t.Errorf("xml of %s: got %s", name, out)
		}
		var log bytes.Buffer
		for _, handler := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
			logger := slog.New(handler)
			logger.Info("m", "v", value)
			logger.With("w", value).WithGroup("g").Info("m", slog.Group("x", slog.Any("v", value)))
		}
		if strings.Contains(log.String(), canary) {
			t.Errorf("slog of %s: got %s", name, log.String())
		}
	}
}

func TestRevealReturnsTheText(t *testing.T) {
	if got := secret.New(canary).Reveal(); got != canary {
		t.Errorf("Reveal: got %q, want %q", got, canary)
	}
	var zero secret.Text
	if got := zero.Reveal(); got != "" || zero.Len() != 0 {
		t.Errorf("zero Reveal: got %q, want empty", got)
	}
}

// Package secret owns text that cannot be printed: tokens and assertions.
//
// Marshalers alone do not keep a secret. The fmt package prints the fields of
// a struct without calling their methods when it reaches them through an
// unexported field, so the text stands behind a pointer: whatever the verb
// and however deep the nesting, a printer meets an address or the word
// [secret]. The one way to the text is Reveal, and a linter lists the places
// that may call it.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[secret]"

// Text is a piece of secret text. The zero value holds the empty text.
// It is immutable and safe for concurrent use; copies share the text.
type Text struct{ sealed *string }

// New returns a Text that holds s.
func New(s string) Text { return Text{sealed: &s} }

// Reveal returns the text itself. Whoever calls it answers for where it goes.
func (t Text) Reveal() string {
	if t.sealed == nil {
		return ""
	}
	return *t.sealed
}

// Len returns the length of the text in bytes.
func (t Text) Len() int { return len(t.Reveal()) }

// String returns a fixed word.
func (t Text) String() string { return redacted }

// GoString returns a fixed word.
func (t Text) GoString() string { return redacted }

// Format writes a fixed word for every verb and flag.
func (t Text) Format(s fmt.State, _ rune) {
	// A failing writer is fmt's to report: Formatter has no error to return.
	_, _ = io.WriteString(s, redacted)
}

// LogValue is a fixed word.
func (t Text) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a fixed word; JSON, XML and YAML encoders use it.
func (t Text) MarshalText() ([]byte, error) { return []byte(redacted), nil }

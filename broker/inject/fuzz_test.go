package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzPod: whatever the object, nothing panics. A pod that is patched keeps
// every field that nobody here knows, and is not changed again.
func FuzzPod(f *testing.F) {
	files, err := filepath.Glob("testdata/pods/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds (%v)", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(toJSON(f, archive.Files[0].Data))
	}
	f.Add(podJSON(f))
	f.Add(podJSON(f, `"containers": [`, `"containers": [null, `))
	f.Add(podJSON(f, `"metadata": {`, `"METADATA": {"labels": {"credfree.dev/inject": "true"}}, "metadata": {`))
	f.Add(podJSON(f, `"securityContext": {"runAsUser": 10001}`, `"env": null, "volumeMounts": [null], "securityContext": {"runAsUser": 10001}`))
	f.Add([]byte(`{"spec": {"containers": "none"}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		i := injector(t)
		if _, err := i.Pod(raw, Account{}); err != nil {
			if refused, ok := errors.AsType[*Refused](err); ok && len(refused.Problems) == 0 {
				t.Error("refused without a reason")
			}
			return
		}
		doc, err := decode(raw)
		if err != nil {
			t.Fatalf("let in, and is not JSON: %v", err)
		}
		marks := 0
		mark(doc, &marks)
		marked, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		i = injector(t)
		patch, err := i.Pod(marked, Account{})
		if err != nil {
			t.Fatalf("unknown fields made it refused: %v", err)
		}
		patched := apply(t, marked, patch.Operations)
		for n := range marks {
			if want := fmt.Sprintf(`"of-tomorrow":"%d."`, n); !strings.Contains(string(patched), want) {
				t.Fatalf("lost %s of %s\nin %s", want, marked, patched)
			}
		}
		again, err := i.Pod(patched, Account{})
		if err != nil || len(again.Operations) > 0 {
			t.Errorf("patched again: %v (%v)", again.Operations, err)
		}
	})
}

// mark puts an unknown field, each time another, into every object but those
// that are taken away as a whole.
func mark(value any, count *int) {
	switch value := value.(type) {
	case object:
		for name, member := range value {
			switch name {
			case "env", "volumeMounts", "labels", "annotations": // these are maps of text, or lists of which entries go
			default:
				mark(member, count)
			}
		}
		value["of-tomorrow"] = fmt.Sprintf("%d.", *count)
		*count++
	case []any:
		for _, item := range value {
			mark(item, count)
		}
	}
}

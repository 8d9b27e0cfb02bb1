package localapi

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"go.yaml.in/yaml/v3"
)

const openAPIPath = "/openapi/v1.json"

//go:embed openapi.yaml
var openAPISource []byte

// OpenAPI is the document, in OpenAPI 3.1, of what both listeners answer to
// programs: every door, open or not, and the routes for operators. The result is
// JSON and must not be modified.
var OpenAPI = sync.OnceValue(func() []byte {
	var document map[string]any
	err := yaml.Unmarshal(openAPISource, &document)
	if err == nil {
		var text []byte
		if text, err = json.MarshalIndent(document, "", " "); err == nil {
			return append(text, '\n')
		}
	}
	panic("openapi.yaml: " + err.Error()) // it is part of the program, and tested
})

// openAPI serves the document: it is the same for everybody, and says nothing of
// the policy.
func (h *Handler) openAPI(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuseToWrite(w)
		return
	}
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(OpenAPI()))}
	// The connection is the agent's: when it is gone, so is the reader.
	_, _ = w.Write(OpenAPI())
}

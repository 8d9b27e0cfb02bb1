package entratest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// maxArcKeys bounds the key files of requests that were never completed.
const maxArcKeys = 16

// arcVersions are those that clients send today.
var arcVersions = []string{"2019-11-01", "2020-06-01", "2021-02-01"}

// NewArc is the agent of an Azure Arc machine. It answers the first request with
// 401 and the name of a key file in cfg.KeyDir; the caller proves that it may
// read the file by sending its content. A file is good for one request.
func NewArc(cfg ManagedIdentityConfig) (*PlatformEndpoint, error) {
	if cfg.KeyDir == "" {
		return nil, errors.New("entratest: managed identity endpoint: Arc needs a KeyDir")
	}
	dir, err := filepath.Abs(cfg.KeyDir)
	if err != nil {
		return nil, fmt.Errorf("entratest: managed identity endpoint: %w", err)
	}
	keys := &arcKeys{dir: dir}
	e, err := newIdentityEndpoint(cfg, identityFlavour{
		method: http.MethodGet, paths: []string{imdsPath}, versions: arcVersions,
		metadata: true, notProxied: true,
		selectors: []string{"client_id", "object_id", "msi_res_id"},
		failure:   oauthFailure,
		answer: func(t identityAnswer) map[string]any {
			doc := map[string]any{
				"access_token": t.token, "token_type": "Bearer", "resource": t.resource,
				"expires_in": seconds(t.lifetime), "ext_expires_in": seconds(t.lifetime),
				"expires_on": epoch(t.until), "not_before": epoch(t.from),
			}
			if t.selected {
				// Without the echo clients take it for an agent that ignored
				// the selector.
				doc["client_id"], doc["object_id"], doc["msi_res_id"] = t.id.ClientID, t.id.PrincipalID, t.id.ResourceID
			}
			return doc
		},
		environment: func(_ *PlatformEndpoint, base string) map[string]string {
			return map[string]string{"IDENTITY_ENDPOINT": base + imdsPath, "IMDS_ENDPOINT": base}
		},
	})
	if err != nil {
		return nil, err
	}
	e.challenge = keys.challenge
	return e.PlatformEndpoint, nil
}

// arcKeys are the key files that wait for their second request.
type arcKeys struct {
	dir string

	mu      sync.Mutex // guards waiting, oldest first
	waiting []arcKey
}

type arcKey struct{ path, content string }

// challenge demands a key, or lets a request pass that has one.
func (k *arcKeys) challenge(r *http.Request) (reply, bool) {
	header := r.Header.Get("Authorization")
	if content, ok := strings.CutPrefix(header, "Basic "); ok && k.redeem(content) {
		return reply{}, false
	}
	path, err := k.create()
	if err != nil {
		return jsonReply(http.StatusInternalServerError, map[string]string{"error": "unknown", "error_description": "The key file could not be written"}), true
	}
	message := "Basic Authorization header is missing"
	if header != "" {
		message = "Basic Authorization header is wrong"
	}
	rep := jsonReply(http.StatusUnauthorized, map[string]string{"error": "unauthorized_client", "error_description": message})
	rep.header.Set("Www-Authenticate", "Basic realm="+path)
	return rep, true
}

func (k *arcKeys) create() (string, error) {
	key := arcKey{path: filepath.Join(k.dir, uuid.NewString()+".key"), content: randomText(64)}
	if err := os.WriteFile(key.path, []byte(key.content), 0o600); err != nil {
		return "", err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting = append(k.waiting, key)
	if len(k.waiting) > maxArcKeys {
		_ = os.Remove(k.waiting[0].path) // somebody else may have cleaned up
		k.waiting = k.waiting[1:]
	}
	return key.path, nil
}

// redeem accepts the content of a key file once.
func (k *arcKeys) redeem(content string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, key := range k.waiting {
		if key.content == content {
			_ = os.Remove(key.path) // somebody else may have cleaned up
			k.waiting = append(k.waiting[:i:i], k.waiting[i+1:]...)
			return true
		}
	}
	return false
}

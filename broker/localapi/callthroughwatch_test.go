package localapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// An API that answers before it has taken the request leaves the transport reading the
// agent's body for a moment. That must not keep the connection of a call that is over
// in memory for as long as a call may stand still.
func TestWatchIsOverOnceItIsStopped(t *testing.T) {
	w, r := watchCall(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/call/tools/a", http.NoBody), time.Hour)
	w.touch()
	w.stop(r.Body)
	w.touch()
	if w.timer.Stop() {
		t.Error("the watch goes on")
	}
}

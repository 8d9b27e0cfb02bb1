//go:build !linux && !darwin

package peer

import (
	"os"
	"time"
)

// changeTime is the modification time, where there is no other.
func changeTime(info os.FileInfo) time.Time { return info.ModTime() }

package peer

import (
	"os"
	"syscall"
	"time"
)

// changeTime is when the file's content or anything else of it was last changed, which nobody can set.
func changeTime(info os.FileInfo) time.Time {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime()
	}
	return time.Unix(stat.Ctim.Unix())
}

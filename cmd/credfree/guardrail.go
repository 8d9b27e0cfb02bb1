package main

import (
	"fmt"
	"io/fs"
	"maps"
	"math/bits"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/credfree/credfree/broker/policy"
)

// podFacts are what the broker can see of its pod without asking anybody.
type podFacts struct {
	uid        uint32
	groups     []uint32 // supplementary; a pod's fsGroup is among them, and every container has it
	uids       func() (map[uint32]bool, error)
	undumpable error // nil: the broker's memory cannot be dumped

	privileges privileges
	tokens     []fileFact
	sockets    []fileFact // folders
	imds       imdsFact
}

// privileges are what /proc/self/status says.
type privileges struct {
	capabilities   uint64 // effective or permitted
	noNewPrivs     bool
	seccomp        int // 2: a filter
	ptraceScope    string
	err            error
	writableRootFS bool
}

// fileFact is a file or a folder as it is on the disk.
type fileFact struct {
	path     string
	mode     fs.FileMode
	uid, gid uint32
	err      error
}

// imdsFact says whether the machine's metadata endpoint answers.
type imdsFact struct {
	asked, reachable bool
	status           int
}

// guardrails judges what the broker sees of its pod: whether an agent beside it
// could get at what only the broker may have. What cannot be told has failed.
func guardrails(f podFacts, p *policy.Policy) []step {
	var steps []step
	problems, hints := exposures(p, f.uid, f.uids, f.undumpable)
	for i, problem := range problems {
		steps = append(steps, failed("isolation", problem, hints[i]))
	}
	if len(problems) == 0 {
		steps = append(steps, passed("isolation", "no agent has the broker's user, sees its process, or can read its memory"))
	}
	steps = append(steps, guardUser(f.uid), guardProcesses(f))
	for _, token := range f.tokens {
		steps = append(steps, guardToken(token, f))
	}
	for _, folder := range f.sockets {
		steps = append(steps, guardSockets(folder))
	}
	return append(append(steps, guardIMDS(f.imds)), guardPrivileges(f.privileges)...)
}

func guardUser(uid uint32) step {
	if uid == 0 {
		return failed("user", "the broker runs as root", "securityContext: {runAsNonRoot: true, runAsUser: 65532}")
	}
	return passed("user", fmt.Sprintf("uid %d", uid))
}

// guardProcesses finds a shared process namespace by any process of another
// user: with it, agents see the broker's files below /proc.
func guardProcesses(f podFacts) step {
	seen, err := f.uids()
	if err != nil {
		return failed("processes", "it cannot be told which processes there are: "+err.Error(), "mount /proc in the broker's container")
	}
	var others []string
	for uid := range seen {
		if uid != f.uid {
			others = append(others, strconv.FormatUint(uint64(uid), 10))
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		return failed("processes", "the broker sees processes of uid "+strings.Join(others, ", ")+": its process namespace is shared",
			"shareProcessNamespace: false # and hostPID: false")
	}
	return passed("processes", "none but the broker's own")
}

// guardToken looks at a workload token's file. Its mode alone keeps no agent
// out, because kubelet gives it the pod's group: what does is that no other
// container mounts it, which the pod's manifest says.
func guardToken(token fileFact, f podFacts) step {
	const name = "workload token"
	if token.err != nil {
		return failed(name, "it cannot be told who may read it: "+token.err.Error(), "mount the projected token in the broker's container")
	}
	says := fmt.Sprintf("%s, mode %04o, owner %d, group %d", token.path, token.mode.Perm(), token.uid, token.gid)
	for _, folder := range f.sockets {
		if below(token.path, folder.path) {
			return failed(name, says+": it lies in a folder of agents' sockets", "mount the token in a volume of its own, in the broker's container only")
		}
	}
	if token.mode.Perm()&0o022 != 0 {
		return failed(name, says+": others may replace it", "mount the projected token with readOnly: true")
	}
	s := passed(name, says)
	switch {
	case token.mode.Perm()&0o004 != 0:
		s.Notes = append(s.Notes, "every container that mounts it can read it: credfree doctor --pod says which do")
	case token.mode.Perm()&0o040 != 0 && slices.Contains(f.groups, token.gid):
		s.Notes = append(s.Notes, fmt.Sprintf("group %d is the pod's fsGroup, which agents have too: every container that mounts the token can read it; credfree doctor --pod says which do", token.gid))
	}
	return s
}

func guardSockets(folder fileFact) step {
	const name = "sockets"
	if folder.err != nil {
		return failed(name, "it cannot be told who may replace them: "+folder.err.Error(), "mount a folder for sockets, or name it with --socket-dir")
	}
	s := passed(name, fmt.Sprintf("%s, mode %04o, owner %d, group %d", folder.path, folder.mode.Perm(), folder.uid, folder.gid))
	if folder.mode.Perm()&0o002 != 0 && folder.mode&fs.ModeSticky == 0 {
		s.Notes = append(s.Notes, "who mounts the folder writable can put a socket of its own there: agents have to mount it with readOnly: true, which credfree doctor --pod checks")
	}
	return s
}

func guardIMDS(imds imdsFact) step {
	const name = "machine identity"
	switch {
	case !imds.asked:
		return skipped(name, "not asked for")
	case imds.reachable:
		return doubted(name, fmt.Sprintf("the metadata endpoint of the machine answers (%d), and every container of the pod can ask it for the machine's tokens", imds.status),
			"egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}}]}] # in a NetworkPolicy for the pod")
	}
	return passed(name, "the metadata endpoint of the machine does not answer")
}

func guardPrivileges(p privileges) []step {
	if p.err != nil {
		return []step{failed("privileges", "it cannot be told what they are: "+p.err.Error(), "mount /proc in the broker's container")}
	}
	mark := func(name string, well bool, is, isNot, fix string) step {
		if well {
			return passed(name, is)
		}
		return doubted(name, isNot, fix)
	}
	steps := []step{
		mark("capabilities", p.capabilities == 0, "none", fmt.Sprintf("the broker has %d capabilities, and needs none", bits.OnesCount64(p.capabilities)),
			"securityContext: {capabilities: {drop: [ALL]}}"),
		mark("new privileges", p.noNewPrivs, "cannot be gained", "the broker could gain privileges by running a file", "securityContext: {allowPrivilegeEscalation: false}"),
		mark("system calls", p.seccomp == 2, "filtered by seccomp", "they are not filtered", "securityContext: {seccompProfile: {type: RuntimeDefault}}"),
		mark("root file system", !p.writableRootFS, "read-only", "the broker's file system is writable", "securityContext: {readOnlyRootFilesystem: true}"),
	}
	if p.ptraceScope != "" {
		steps[1].Notes = append(steps[1].Notes, "ptrace scope "+p.ptraceScope+" (0: every process of the broker's user may trace it; its memory stays closed to them where it cannot be dumped)")
	}
	return steps
}

// below reports whether path lies in folder.
func below(path, folder string) bool {
	rest, err := filepath.Rel(folder, path)
	return err == nil && rest != ".." && !strings.HasPrefix(rest, ".."+string(filepath.Separator))
}

// imdsURL is the machine's metadata endpoint, on Azure and elsewhere.
const imdsURL = "http://169.254.169.254/metadata/instance?api-version=2021-02-01"

// askIMDS says whether anything answers there: whatever the answer is, agents
// get it too.
func askIMDS(url string) imdsFact {
	client := http.Client{
		Timeout:       300 * time.Millisecond,
		Transport:     &http.Transport{DisableKeepAlives: true}, // and no proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		return imdsFact{asked: true}
	}
	request.Header.Set("Metadata", "true")
	answer, err := client.Do(request)
	if err != nil {
		return imdsFact{asked: true}
	}
	answer.Body.Close()
	return imdsFact{asked: true, reachable: true, status: answer.StatusCode}
}

// podFactsOf collects what can be seen, for a policy whose sockets are below
// socketDir, each in a folder of its own with socketFolders.
func podFactsOf(p *policy.Policy, socketDir string, socketFolders bool, undumpable error) podFacts {
	f := podFacts{uid: ownUID(), groups: ownGroups(), uids: visibleUIDs, undumpable: undumpable, privileges: ownPrivileges()}
	for _, name := range slices.Sorted(maps.Keys(p.Sources)) {
		if source := p.Sources[name]; source.File != nil {
			f.tokens = append(f.tokens, factOf(source.File.Path))
		}
	}
	folders := map[string]bool{}
	for _, socket := range p.Sockets() {
		folders[filepath.Dir(socketPath(socketDir, socketFolders, socket))] = true
	}
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		f.sockets = append(f.sockets, factOf(folder))
	}
	return f
}

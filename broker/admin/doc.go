// Package admin owns the HTTP listener for operators: health, readiness,
// metrics, purging, and the page of recent issuances with its JSON.
//
// It hands out nothing that could be spent, but it is for loopback and for no
// foreign page all the same: the guard of the agents' doors stands here too. In
// a pod, agents reach it as well. Health, readiness and metrics are for
// everybody; who asked for whom, and purging, are for the broker's own user, for
// root, and for whoever presents the operator key.
package admin

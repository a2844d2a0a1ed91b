// The agent inside a Sporelet guest: PID 1, and the guest's end of the agent protocol.
//
// As PID 1 it takes no arguments. With -listen it serves the same protocol on a Unix socket of an ordinary
// machine, changes nothing of that machine's identity, and is for tests and for trying things out.
package main

import (
	"flag"
	"fmt"
	"os"
)

// version is set by the linker (tools/build-agent).
var version = "dev"

func main() {
	if os.Getpid() == 1 {
		runInit()
		return
	}
	listen := flag.String("listen", "", "serve on a Unix socket: unix:/path")
	root := flag.String("root", "", "directory that stands for / in the files that first contact writes and the hooks it runs")
	services := flag.Bool("services", false, "with -listen: supervise the services of /etc/sporelet/agent.json below -root")
	showVersion := flag.Bool("version", false, "print the version and end")
	flag.Parse()
	if *showVersion {
		fmt.Println(version)
		return
	}
	if err := runTest(*listen, *root, *services); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

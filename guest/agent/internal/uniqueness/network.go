package uniqueness

import (
	"strings"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
)

func (g *Guest) network(network *agentv1.Network) error {
	if network == nil {
		return nil
	}
	if network.Mac != "" || network.Address != "" {
		if err := g.Kernel.SetNetwork(network.Mac, network.Address, network.Gateway); err != nil {
			return err
		}
	}
	if len(network.Dns) == 0 {
		return nil
	}
	var servers strings.Builder
	for _, server := range network.Dns {
		servers.WriteString("nameserver " + server + "\n")
	}
	return g.write("/etc/resolv.conf", []byte(servers.String()), 0o644)
}

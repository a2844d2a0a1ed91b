package uniqueness

import (
	"errors"
	"strings"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
)

// network sets the network up. A guest that is resumed has that of its template: without addresses of its own it would
// go on as its sibling.
func (g *Guest) network(network *agentv1.Network, resume bool) error {
	if resume && (network.GetMac() == "" || network.GetAddress() == "") && g.Kernel.HasNetwork() {
		return errors.New("the host sent no MAC address, or no address, for the guest's interface")
	}
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

//! The commands for the Exchange Management Shell: a connector for one domain first, then the switch,
//! then the way back.

use super::SetupAnswers;

/// The connector of one domain, and the one of all.
const PILOT: &str = "Relay pilot";
const ALL: &str = "Relay";

/// All of them, with what each is for. They are printed and never run.
#[must_use]
pub fn commands(answers: &SetupAnswers) -> String {
    let (hostname, pilot) = (&answers.hostname, &answers.pilot);
    let connector = |name: &str, space: &str| {
        format!(
            "New-SendConnector -Name \"{name}\" -Usage Custom -AddressSpaces \"SMTP:{space};1\" `\n    \
             -SmartHosts \"{hostname}\" -DNSRoutingEnabled $false -SmartHostAuthMechanism None `\n    \
             -RequireTLS $true -SourceTransportServers $servers\n"
        )
    };
    format!(
        "# Before: what is there now, kept in a file, and the servers that send.\n\
         Get-SendConnector | Format-List Name,AddressSpaces,SmartHosts,DNSRoutingEnabled,SourceTransportServers,Enabled\n\
         Get-SendConnector | Export-Clixml \"$HOME\\send-connectors-before.xml\"\n\
         $servers = (Get-TransportService).Name\n\n\
         # 1. The pilot: mail to {pilot} alone goes through the relay.\n{}\
         # Send a message to somebody there, and look at both sides:\n\
         Get-Queue | Format-Table Identity,DeliveryType,NextHopDomain,Status,MessageCount,LastError -AutoSize\n\
         #   on the relay: relay why somebody@{pilot}\n\
         # Back from the pilot:\n\
         # Remove-SendConnector \"{PILOT}\" -Confirm:$false\n\n\
         # 2. The switch: all mail goes through the relay. The old connector stays, disabled.\n{}\
         Set-SendConnector \"NAME OF THE OLD CONNECTOR\" -Enabled $false\n\
         Get-Queue -Filter 'Status -eq \"Retry\"' | Retry-Queue -Resubmit $true -Confirm:$false\n\n\
         # 3. The way back, if ever: two lines, and what waits in Exchange goes the old way.\n\
         #    What the relay has accepted it goes on delivering.\n\
         # Set-SendConnector \"NAME OF THE OLD CONNECTOR\" -Enabled $true\n\
         # Set-SendConnector \"{ALL}\" -Enabled $false\n\
         # Get-Queue -Filter 'Status -eq \"Retry\"' | Retry-Queue -Resubmit $true -Confirm:$false\n",
        connector(PILOT, &pilot.to_string()),
        connector(ALL, "*"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::setup::tests::answers;

    #[test]
    fn the_pilot_comes_before_the_switch_and_the_way_back_is_commented_out() {
        let text = commands(&answers());
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part} in:\n{text}"));
        assert!(at("SMTP:partner.example;1") < at("SMTP:*;1"), "{text}");
        assert!(at("SMTP:*;1") < at("# Set-SendConnector \"NAME OF THE OLD CONNECTOR\" -Enabled $true"));
        assert_eq!(text.matches("-SmartHosts \"relay.example.org\"").count(), 2);
        let acts = text.lines().filter(|line| line.starts_with("Remove-") || line.contains("-Enabled $true"));
        assert!(acts.clone().all(|line| line.starts_with('#')), "{:?}", acts.collect::<Vec<_>>());
    }
}

//! Another configuration of the reports on TLS while a relay runs.

use crate::relay::lab;
use crate::reload::Configured;

#[tokio::test]
async fn who_reports_on_tls_is_what_the_configuration_says_now() {
    let world = Configured::new(lab().domain("dane.test", |d| d)).await;
    world.add("tls_reports", "enabled = true\norganization = \"Office Ltd\"");
    let told = world.refused().await;
    assert!(told.contains("[tls_reports] enabled: true needs contact"), "{told}");
    world.write(|text| text.replace("\"Office Ltd\"", "\"Office Ltd\"\ncontact = \"tls@office.test\""));
    let told = world.reload().await;
    for line in ["enabled: false -> true", "organization: not set -> \"Office Ltd\"", "contact: not set -> "] {
        assert!(told.contains(&format!("[tls_reports] {line}")), "{told}");
    }
    world.add("tls_reports", "domains_never = [\"dane.test\"]\nonly_failures = true\ncopy_to = [\"a@office.test\"]");
    let told = world.reload().await;
    assert_eq!(told.matches("[tls_reports]").count(), 3, "{told}");
}

//! Tests of the protobuf API as other languages see it.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tenant_gateway::grpc::pb;

#[test]
fn every_proto_file_has_its_package_in_each_language() {
    let set = FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
    let files: Vec<_> =
        set.file.iter().filter(|file| file.package() == "tenantgateway.v1").collect();
    assert!(files.len() >= 10);
    // Java: the outer class of a file must not have the name of a type or of another outer class.
    let mut classes: BTreeSet<_> = files
        .iter()
        .flat_map(|file| {
            let messages = file.message_type.iter().map(|message| message.name().to_owned());
            let enums = file.enum_type.iter().map(|kind| kind.name().to_owned());
            messages
                .chain(enums)
                .chain(file.service.iter().map(|service| service.name().to_owned()))
        })
        .collect();
    for file in files {
        let options = file.options.clone().unwrap();
        let told = [
            options.go_package(),
            options.java_package(),
            options.csharp_namespace(),
            options.php_namespace(),
            options.ruby_package(),
        ];
        let wanted = [
            "tenantgateway/v1;tenantgatewayv1",
            "tenantgateway.v1",
            "TenantGateway.V1",
            "TenantGateway\\V1",
            "TenantGateway::V1",
        ];
        assert_eq!(told, wanted, "{}", file.name());
        assert!(options.java_multiple_files(), "{}", file.name());
        let class = options.java_outer_classname().to_owned();
        assert!(class.ends_with("Proto") && classes.insert(class), "{}", file.name());
    }
}

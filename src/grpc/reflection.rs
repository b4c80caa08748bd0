//! The services and methods in the compiled protobuf descriptors, for reflection and for the metrics of calls.

use prost::Message as _;
use tonic::service::RoutesBuilder;
use tonic_reflection::server::{Builder, Error};

use super::{
    envoy_pb,
    limits::{MAX_PUBLIC_MESSAGE_BYTES, with_limits},
    pb,
};

/// Adds both versions of the reflection service.
///
/// # Errors
/// If the descriptors are damaged.
pub(super) fn add_reflection(
    routes: &mut RoutesBuilder,
    services: &[&'static str],
) -> Result<(), Error> {
    // Includes the messages of error details, so that grpcurl can print them.
    let builder = || {
        services.iter().fold(
            Builder::configure()
                .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
                .register_encoded_file_descriptor_set(envoy_pb::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET),
            |builder, service| builder.with_service_name(*service),
        )
    };
    routes
        .add_service(with_limits!(builder().build_v1()?, MAX_PUBLIC_MESSAGE_BYTES))
        .add_service(with_limits!(builder().build_v1alpha()?, MAX_PUBLIC_MESSAGE_BYTES));
    Ok(())
}

/// Returns `service/method` of all RPCs: of our own API, of Envoy's, and of health and reflection.
///
/// # Errors
/// If the descriptors are damaged.
pub(super) fn methods() -> Result<Vec<String>, prost::DecodeError> {
    let mut methods = Vec::new();
    let sets = [pb::DESCRIPTORS, envoy_pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
    for descriptors in sets {
        let set = prost_types::FileDescriptorSet::decode(descriptors)?;
        for file in &set.file {
            for service in &file.service {
                let name = |m: &prost_types::MethodDescriptorProto| {
                    format!("{}.{}/{}", file.package(), service.name(), m.name())
                };
                methods.extend(service.method.iter().map(name));
            }
        }
    }
    methods.push("grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned());
    methods.push("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo".to_owned());
    Ok(methods)
}

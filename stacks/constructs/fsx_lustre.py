"""FSx for Lustre file system of the cluster, linked to the data bucket."""

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_fsx as fsx
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.settings.storage import Lustre


class LinkedFsxLustre(Construct):
    """Persistent file system whose `/data` imports from and exports to the data bucket."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Lustre,
        subnet: ec2.ISubnet,
        group: ec2.ISecurityGroup,
        key: kms.IKey,
        bucket: s3.IBucket,
        export: bool,
        removal: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, id)
        self.file_system = fsx.CfnFileSystem(
            self,
            "FileSystem",
            file_system_type="LUSTRE",
            file_system_type_version="2.15",
            storage_capacity=settings.capacity_gib,
            storage_type="SSD",
            subnet_ids=[subnet.subnet_id],
            security_group_ids=[group.security_group_id],
            kms_key_id=key.key_arn,
            lustre_configuration=fsx.CfnFileSystem.LustreConfigurationProperty(
                deployment_type="PERSISTENT_2",
                per_unit_storage_throughput=settings.throughput_mbps_per_tib,
                data_compression_type="LZ4",
                efa_enabled=settings.efa or None,
                metadata_configuration=fsx.CfnFileSystem.MetadataConfigurationProperty(
                    mode="AUTOMATIC"
                ),
            ),
        )
        self.file_system.apply_removal_policy(removal)
        events = ["NEW", "CHANGED", "DELETED"]
        fsx.CfnDataRepositoryAssociation(
            self,
            "Data",
            file_system_id=self.file_system.ref,
            file_system_path="/data",
            data_repository_path=f"s3://{bucket.bucket_name}",
            batch_import_meta_data_on_create=True,
            s3=fsx.CfnDataRepositoryAssociation.S3Property(
                auto_import_policy=fsx.CfnDataRepositoryAssociation.AutoImportPolicyProperty(
                    events=events
                ),
                # A bucket that existed before is not written to, nor are its objects deleted.
                auto_export_policy=fsx.CfnDataRepositoryAssociation.AutoExportPolicyProperty(
                    events=events
                )
                if export
                else None,
            ),
        )

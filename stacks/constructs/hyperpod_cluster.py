"""HyperPod cluster, created with the CloudFormation type `AWS::SageMaker::Cluster`.

HyperPod configures its nodes itself: Slurm, accounting, mounts and health checks are properties of
the resource type. On Slurm, one lifecycle script runs after that (`HyperPodLifecycle`), which makes
the shared folders, the users and the container software; on EKS no script runs.
"""

from collections.abc import Mapping, Sequence

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_fsx as fsx
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.aws_data.tables import instances
from stacks.constructs.hyperpod_lifecycle import SHARED_FOLDER
from stacks.constructs.slurm_accounting import DATABASE, PORT, SlurmAccounting
from stacks.settings.hyperpod import HyperPodSettings, InstanceGroup
from stacks.settings.placement import pinned_zone

Cluster = sagemaker.CfnCluster
SLURM_NODES = {"controller": "Controller", "login": "Login", "compute": "Compute"}


class HyperPodCluster(Construct):
    """Cluster of instance groups; nodes are tested before they join and replaced when they fail.

    Attributes:
        cluster: The `AWS::SageMaker::Cluster` resource.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: HyperPodSettings,
        subnets: Mapping[str, ec2.ISubnet],
        zones: Sequence[str],
        group: ec2.ISecurityGroup,
        role: iam.IRole,
        controller_role: iam.IRole,
        key: kms.IKey,
        lustre: fsx.CfnFileSystem,
        eks_cluster_arn: str | None = None,
        accounting: SlurmAccounting | None = None,
        autoscaling_role: iam.IRole | None = None,
        lifecycle: sagemaker.CfnCluster.ClusterLifeCycleConfigProperty | None = None,
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._subnets = settings, subnets
        self._group, self._key, self._lustre = group, key, lustre
        self._roles = {"controller": controller_role, "login": role, "compute": role}
        self._eks_cluster_arn, self._accounting = eks_cluster_arn, accounting
        self._lifecycle = lifecycle
        self.cluster = Cluster(
            self,
            "Cluster",
            vpc_config=self._vpc_config([subnets[zone] for zone in zones]),
            orchestrator=self._orchestrator(),
            node_recovery="Automatic" if settings.node_recovery else "None",
            node_provisioning_mode="Continuous",
            auto_scaling=Cluster.ClusterAutoScalingConfigProperty(
                mode="Enable", auto_scaler_type="Karpenter"
            )
            if autoscaling_role
            else None,
            cluster_role=autoscaling_role.role_arn if autoscaling_role else None,
            instance_groups=[self._instance_group(each) for each in settings.groups],
        )

    def _vpc_config(self, subnets: Sequence[ec2.ISubnet]) -> sagemaker.CfnCluster.VpcConfigProperty:
        return Cluster.VpcConfigProperty(
            security_group_ids=[self._group.security_group_id],
            subnets=[subnet.subnet_id for subnet in subnets],
        )

    def _orchestrator(self) -> sagemaker.CfnCluster.OrchestratorProperty:
        if self._settings.orchestrator == "eks":
            assert self._eks_cluster_arn is not None, "checked when the settings were read"
            return Cluster.OrchestratorProperty(
                eks=Cluster.ClusterOrchestratorEksConfigProperty(cluster_arn=self._eks_cluster_arn)
            )
        # With continuous provisioning HyperPod alone manages the Slurm configuration, and any
        # SlurmConfigStrategy is refused
        # (docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-scaling-slurm.html).
        return Cluster.OrchestratorProperty(
            slurm=Cluster.ClusterOrchestratorSlurmConfigProperty(
                accounting_database=self._accounting_database()
            )
        )

    def _accounting_database(self) -> sagemaker.CfnCluster.ClusterAccountingDatabaseProperty | None:
        if self._accounting is None:
            return None
        return Cluster.ClusterAccountingDatabaseProperty(
            endpoint=self._accounting.database.attr_endpoint_address,
            secret_arn=self._accounting.secret_arn,
            port=PORT,
            name=DATABASE,
        )

    def _instance_group(
        self, group: InstanceGroup
    ) -> sagemaker.CfnCluster.ClusterInstanceGroupProperty:
        accelerated = instances().get(group.instance.removeprefix("ml."))
        slurm = self._settings.orchestrator == "slurm"
        checks = ["InstanceStress", "InstanceConnectivity"]
        return Cluster.ClusterInstanceGroupProperty(
            instance_group_name=group.name,
            instance_type=group.instance,
            instance_count=group.count,
            execution_role=self._roles[group.role].role_arn,
            life_cycle_config=self._lifecycle,
            image_id=group.image_id,
            auto_patch_config=Cluster.AutoPatchConfigProperty(patching_strategy=group.auto_patch)
            if group.auto_patch
            else None,
            scheduled_update_config=Cluster.ScheduledUpdateConfigProperty(
                schedule_expression=group.update_schedule
            )
            if group.update_schedule
            else None,
            threads_per_core=1 if accelerated else None,
            training_plan_arn=group.training_plan,
            capacity_requirements=Cluster.ClusterCapacityRequirementsProperty(spot={})
            if group.spot
            else None,
            instance_storage_configs=self._storage_configs(group, slurm=slurm),
            on_start_deep_health_checks=checks
            if accelerated and group.deep_health_checks and not group.autoscale
            else None,
            override_vpc_config=self._vpc_config([self._subnets[zone]])
            if (zone := pinned_zone(group))
            else None,
            slurm_config=Cluster.ClusterSlurmConfigProperty(
                node_type=SLURM_NODES[group.role],
                partition_names=[group.partition or group.name]
                if group.role == "compute"
                else None,
            )
            if slurm
            else None,
        )

    def _storage_configs(
        self, group: InstanceGroup, *, slurm: bool
    ) -> list[sagemaker.CfnCluster.ClusterInstanceStorageConfigProperty]:
        volume = Cluster.ClusterInstanceStorageConfigProperty(
            ebs_volume_config=Cluster.ClusterEbsVolumeConfigProperty(
                volume_size_in_gb=group.volume_gib, volume_kms_key_id=self._key.key_arn
            )
        )
        volumes = [volume]
        if group.encrypt_root_volume:
            # AWS's own key encrypts the root volume by default.
            # docs.aws.amazon.com/sagemaker/latest/dg/smcluster-cmk.html
            root = Cluster.ClusterEbsVolumeConfigProperty(
                root_volume=True, volume_kms_key_id=self._key.key_arn
            )
            volumes.append(Cluster.ClusterInstanceStorageConfigProperty(ebs_volume_config=root))
        if not slurm:
            return volumes  # on EKS, pods mount Lustre through the CSI driver
        mount = Cluster.ClusterInstanceStorageConfigProperty(
            fsx_lustre_config=Cluster.ClusterFsxLustreConfigProperty(
                dns_name=self._lustre.attr_dns_name,
                mount_name=self._lustre.attr_lustre_mount_name,
                mount_path=SHARED_FOLDER,
            )
        )
        return [*volumes, mount]

# The IAM role that workermon reads AWS with; the same as role.yaml beside this folder. It changes nothing in AWS.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "role_name" {
  type    = string
  default = "workermon"
}

variable "trusted_account" {
  type        = string
  default     = ""
  description = "The account in which workermon runs, if that is another one. Empty for instances of this account."

  validation {
    condition     = can(regex("^([0-9]{12})?$", var.trusted_account))
    error_message = "An account has 12 digits."
  }
}

variable "external_id" {
  type        = string
  default     = ""
  sensitive   = true
  description = "What the other account has to present (external_id of [accounts]). Needed with trusted_account."
}

variable "roles_to_assume" {
  type        = list(string)
  default     = []
  description = "ARNs of roles in other accounts that workermon watches."
}

variable "topics" {
  type        = list(string)
  default     = []
  description = "ARNs of SNS topics that are channels."
}

variable "queues" {
  type        = list(string)
  default     = []
  description = "ARNs of SQS queues that are event queues."
}

data "aws_partition" "current" {}

locals {
  for_instances = var.trusted_account == ""
  event_buses   = ["arn:${data.aws_partition.current.partition}:events:*:*:event-bus/default"]
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type = local.for_instances ? "Service" : "AWS"
      identifiers = [
        local.for_instances
        ? "ec2.${data.aws_partition.current.dns_suffix}"
        : "arn:${data.aws_partition.current.partition}:iam::${var.trusted_account}:root"
      ]
    }

    dynamic "condition" {
      for_each = local.for_instances ? [] : [1]

      content {
        test     = "StringEquals"
        variable = "sts:ExternalId"
        values   = [var.external_id]
      }
    }
  }
}

# None of the four actions that read can be limited to single resources.
data "aws_iam_policy_document" "permissions" {
  statement {
    actions = [
      "ec2:DescribeInstances",
      "ec2:DescribeInstanceStatus",
      "cloudwatch:GetMetricData",
      "cloudwatch:ListMetrics",
    ]
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = length(var.roles_to_assume) > 0 ? [1] : []

    content {
      actions   = ["sts:AssumeRole"]
      resources = var.roles_to_assume
    }
  }

  dynamic "statement" {
    for_each = length(var.topics) > 0 ? [1] : []

    content {
      actions   = ["sns:Publish"]
      resources = var.topics
    }
  }

  dynamic "statement" {
    for_each = length(var.queues) > 0 ? [1] : []

    content {
      actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:SendMessage"]
      resources = var.queues
    }
  }

  # For workermon doctor, whose event takes the way of all others, through EventBridge.
  dynamic "statement" {
    for_each = length(var.queues) > 0 ? [1] : []

    content {
      actions   = ["events:PutEvents"]
      resources = local.event_buses

      condition {
        test     = "StringEquals"
        variable = "events:source"
        values   = ["workermon"]
      }
    }
  }
}

resource "aws_iam_role" "workermon" {
  name               = var.role_name
  assume_role_policy = data.aws_iam_policy_document.trust.json

  lifecycle {
    precondition {
      condition     = local.for_instances || length(var.external_id) >= 2
      error_message = "Set external_id too, a long random text."
    }
  }
}

resource "aws_iam_role_policy" "workermon" {
  name   = "workermon"
  role   = aws_iam_role.workermon.id
  policy = data.aws_iam_policy_document.permissions.json
}

resource "aws_iam_instance_profile" "workermon" {
  count = local.for_instances ? 1 : 0
  name  = var.role_name
  role  = aws_iam_role.workermon.name
}

output "role_arn" {
  description = "For role_arn of [accounts] in workermon's config file."
  value       = aws_iam_role.workermon.arn
}

# What is said, and looked at, once a start; not in the Snakemakes that jobs of a cluster start.

if workflow.is_main_process:
    from elf.running.start import start

    try:
        start(PLAN, {rule.name for rule in workflow.rules}, logger)
    except ElfError as error:
        # Below any exception Snakemake would print where it was raised.
        logger.error(str(error))
        sys.exit(1)
